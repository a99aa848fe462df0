package main

import (
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/events"
)

const noTruncate = allowAll + `  - {name: no-truncate, effect: block, identity: "*", resource: "*", commands: [truncate], reason: not here, remedy: ask}
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
	h.catalog = ", catalog: {user: postgres}"
	h.configure()
	h.serve()
	pid := h.daemon()
	const text = "truncate x"
	token := h.token("agent-a")
	open := h.shell(token)
	if out, errs := open.run("create table x (); truncate x; select 'through'"); out != "through\n" {
		t.Fatalf("%q, %s", out, errs)
	}
	// refused proves that the policy that blocks is in force, in a session
	// that is older than it too.
	refused := func(when string) {
		t.Helper()
		before := len(open.errs.String())
		if out, errs := open.run(text + ";select 'went on'"); out != "went on\n" || !has(errs[before:], "not here", "no-truncate") {
			t.Errorf("%s: %q, %s", when, out, errs[before:])
		}
	}

	h.write(h.policy, noTruncate)
	h.reload("msg=reloaded process=loader")
	refused("after the reload")
	if out, err := h.psqlWith(token, "-c", text); err == nil || !has(out, "not here", "no-truncate") {
		t.Errorf("a new session after the reload: %q, %v", out, err)
	}

	// What is wrong is refused whole, with its place; the old one stays.
	h.write(h.policy, allowAll+"  - {name: x, effect: alow}\n")
	h.reload("reload refused")
	if !has(h.log.String(), h.policy+":3: ") {
		t.Error("no line of the policy in the log")
	}
	refused("after a bad policy")
	h.write(h.policy, allowAll)
	h.more = "nonsense: 1\n"
	h.configure()
	h.reload("reload refused")
	if !has(h.log.String(), h.config+":18: unknown field") {
		t.Error("no line of the configuration in the log")
	}
	refused("after a bad configuration beside a good policy")
	h.more = "limits: {sessions: 7}\n"
	h.configure()
	h.reload("limits can't change in a running sallyport")
	refused("after a change that needs a restart")
	if r := h.metric(`sallyport_reloads_total{result="refused"}`); r != "3" {
		t.Errorf("refused reloads: %s", r)
	}

	// Workloads may change: both halves change together.
	h.more, h.subject = "", "agent-b"
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

// Resources may come and go: the guard follows.
func TestReloadResources(t *testing.T) {
	server := startPostgres(t)
	h := newHost(t, "")
	h.serve()
	token := h.token("agent-a")
	h.server = server
	// Not guarded yet: the agent reaches it directly.
	if out, err := h.psqlWith(token, "-c", "select current_setting('application_name')"); err != nil {
		t.Fatalf("%q, %v", out, err)
	}
	h.configure()
	h.reload("msg=reloaded process=loader")
	if out, err := h.psqlWith(token, "-c", "select 42"); err != nil || out != "42\n" {
		t.Errorf("%q, %v", out, err)
	}
	if n := h.metric(`sallyport_flows_total{resource="clinic"}`); n != "1" {
		t.Errorf("%s connections came through the passage", n)
	}
	h.stop()
}
