package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/events/ocsf/sigmatest"
)

// alerts holds that the Sigma rules of these names match what was recorded, once
// record has read it.
func (h *host) alerts(names ...string) {
	h.t.Helper()
	fired, err := sigmatest.Fired(h.recorded)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, name := range names {
		if !slices.Contains(fired, name) {
			h.t.Errorf("no event of %d matches the Sigma rule %s, only %q", len(h.recorded), name, fired)
		}
	}
}

// What agents do that somebody should hear of matches the Sigma rules, and what they
// do every day does not. A statement of 100 MB is refused, is on the record, and is no
// trouble for what comes behind it: there are as many statements as were asked.
func TestAlertsOfAgents(t *testing.T) {
	h := newHost(t, startPostgres(t))
	asAdmin(t, h.server, clinic+"; insert into patients select g, 'x' from generate_series(2, 10000) g; create table notes (id int); create table secrets (id int);"+
		"grant select, delete on patients, notes, secrets to agent")
	h.catalog = ", catalog: {user: watcher}"
	h.configure()
	h.write(h.policy, `rules:
  - {name: reads, effect: allow, identity: "*", resource: clinic, commands: [read, session], relations: [public.patients, public.notes]}
  - {name: notes, effect: block, observe: true, identity: "*", resource: clinic, commands: [read], relations: [public.notes]}
  - {name: hide, effect: mask, identity: "*", resource: clinic, fields: {public.patients.ssn: {mask: partial, last: 2}}}
  - {name: calls, effect: reveal, identity: "*", resource: clinic, reveal: [public.patients.ssn], justification: 10}
`)
	h.serve()
	token := h.token("agent-a")
	h.shellEnds(token, []string{"select ssn from patients where id = 1"}, "***-**-**89")
	h.stop()
	if got := len(recorded(h.record(), events.Statement)); got != 1 {
		t.Errorf("%d statements", got)
	}
	// The daemon itself says at its start that a rule only observes.
	if fired, err := sigmatest.Fired(h.recorded); err != nil || !slices.Equal(fired, []string{"alarm"}) {
		t.Errorf("after a masked read: %q, %v", fired, err)
	}

	h.serve()
	large := "select length('" + strings.Repeat("x", 100<<20) + "')"
	asked := []string{
		"select count(*) from notes", // its rule only observes
		"select id from secrets", "delete from patients", large,
		"select id from patients", // all
		"set sallyport.justification = 'she calls about her bill'",
		"select ssn from patients where id = 1",
		"select 'the end'",
	}
	h.shellEnds(token, asked, "123-45-6789", "the end", "10000")
	if out, err := h.psql("agent-b", "-c", "select 1"); err == nil {
		t.Errorf("agent-b got in: %s", out)
	}
	h.stop()
	all := h.record()
	h.alerts("unauthorized", "write_refused", "bulk_read", "revealed", "not_enforced", "login_refused")
	fired, _ := sigmatest.Fired(h.recorded)
	if len(fired) != 7 {
		t.Errorf("these match: %q", fired)
	}
	// The justification is the passage's own, and no statement of the server's.
	if n := len(recorded(all, events.Statement)) + len(recorded(all, events.Block)); n != 1+len(asked) {
		t.Errorf("%d statements are on the record, %d were asked", n, 1+len(asked))
	}
	if b := recorded(all, events.Block); len(b) != 3 || !slices.ContainsFunc(b, func(v ocsf.View) bool { return has(v.Reason, "larger than what is analysed") }) {
		t.Errorf("%+v", b)
	}
}

// shellEnds has the agent's psql run statements to their end, and holds what it prints.
func (h *host) shellEnds(token string, statements []string, prints ...string) {
	h.t.Helper()
	file := filepath.Join(h.dir, "statements.sql")
	f, err := os.Create(file)
	if err != nil {
		h.t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for _, s := range statements {
		fmt.Fprintln(w, s+";")
	}
	if err := w.Flush(); err != nil {
		h.t.Fatal(err)
	}
	f.Close()
	if err := os.Chmod(file, 0o644); err != nil {
		h.t.Fatal(err)
	}
	out, _ := h.psqlWith(token, "-f", file)
	for _, p := range prints {
		if !strings.Contains(out, p+"\n") {
			h.t.Errorf("no %q in %d bytes: %.2000s", p, len(out), out)
		}
	}
}
