package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/events"
)

const noDelete = allowAll + `  - {name: no-truncate, effect: block, identity: "*", resource: "*", commands: [truncate], reason: not here, remedy: ask}
`

// reload asks for a reload and returns when the log tells of it.
func (h *host) reload(want string) {
	h.t.Helper()
	before := strings.Count(h.log.String(), want)
	h.signal(syscall.SIGHUP)
	within(h.t, want, func() bool { return strings.Count(h.log.String(), want) > before })
}

func (h *host) metric(name string) string {
	h.t.Helper()
	res, err := http.Get("http://" + h.metrics + "/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func TestReload(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.more = "# more\n"
	h.configure()
	h.serve()
	pid := h.daemon()
	token := h.token("agent-a")
	const text = "create table if not exists x (); truncate x"
	if out, err := h.psqlWith(token, "-c", text); err != nil {
		t.Fatalf("%q, %v", out, err)
	}

	h.write(h.policy, noDelete)
	h.reload("msg=reloaded process=loader")
	if out, err := h.psqlWith(token, "-c", text); err == nil || !has(out, "not here", "no-truncate") {
		t.Errorf("after the reload: %q, %v", out, err)
	}

	// What is wrong is refused whole, with its place; the old one stays.
	h.write(h.policy, allowAll+"  - {name: x, effect: alow}\n")
	h.reload("reload refused")
	if !has(h.log.String(), h.policy+":3: ") {
		t.Errorf("no line in the log:\n%s", h.log)
	}
	if out, err := h.psqlWith(token, "-c", text); err == nil || !has(out, "not here") {
		t.Errorf("after a bad policy: %q, %v", out, err)
	}
	h.write(h.policy, allowAll)
	h.more = "nonsense: 1\n"
	h.configure()
	h.reload("reload refused")
	if !has(h.log.String(), h.config+":18: unknown field") {
		t.Errorf("no line in the log:\n%s", h.log)
	}
	// The policy beside it was good, but the whole was not.
	if out, err := h.psqlWith(token, "-c", text); err == nil || !has(out, "not here") {
		t.Errorf("after a bad configuration: %q, %v", out, err)
	}
	h.more = "limits: {sessions: 7}\n"
	h.configure()
	h.reload("limits can't change in a running sallyport")
	if r := h.metric(`sallyport_reloads_total{result="refused"}`); r != "3" {
		t.Errorf("refused reloads: %s", r)
	}

	// Workloads and resources may change: both halves change together.
	h.more = fmt.Sprintf("# %d\n", 1)
	h.subject = "agent-b"
	h.configure()
	h.reload("msg=reloaded process=loader")
	if out, err := h.psqlWith(token, "-c", "select 1"); err == nil || !has(out, "may not present") {
		t.Errorf("a subject that is gone: %q, %v", out, err)
	}
	if out, err := h.psql("agent-b", "-c", text); err != nil {
		t.Errorf("a subject that is new: %q, %v", out, err)
	}
	if now := h.daemon(); now != pid {
		t.Error("the daemon is another")
	}
	h.stop()
	all := h.record()
	reloads, alarms := 0, recorded(all, events.Alarm)
	for _, l := range recorded(all, events.Lifecycle) {
		if l.Status == "reload" {
			reloads++
		}
	}
	// Alarms of one cause are held apart: the first is there.
	if reloads != 2 || len(alarms) == 0 || !has(alarms[0].Message, "reload", h.policy+":3: ") {
		t.Errorf("%d reloads, alarms %+v", reloads, alarms)
	}
}
