package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/identity/oidctest"
)

// approvingHost is a host whose deletes are approved by people of a real issuer.
type approvingHost struct {
	*host
	people *oidctest.Provider
}

func newApprovingHost(t *testing.T, wait string) *approvingHost {
	t.Helper()
	h := &approvingHost{host: newHost(t, startPostgres(t)), people: oidctest.Start(t, "--people", "approvers")}
	asAdmin(t, h.server, "CREATE TABLE visits (id int, note text); INSERT INTO visits VALUES (1, 'a'), (2, 'b'), (3, 'c')")
	h.catalog = ", catalog: {user: postgres}"
	h.more = fmt.Sprintf("approvals:\n  issuers: [{url: %q, client: approvers, scopes: [profile]}]\n", h.people.Issuer)
	h.configure()
	h.write(h.policy, allowAll+fmt.Sprintf(`  - name: deletes
    effect: approve
    identity: "*"
    resource: clinic
    commands: delete
    relations: "*"
    reason: rows of patients
    approve: {by: {issuer: %[1]q, claims: {groups: leads}}, wait: %[2]s}
break_glass:
  - name: ward emergency
    by: {issuer: %[1]q, claims: {groups: on-call}}
    rules: [deletes]
    resources: [clinic]
    workloads: [agent-a]
    longest: 1h
    review: {by: {issuer: %[1]q, claims: {groups: privacy}}, within: 72h}
`, h.people.Issuer, wait))
	h.serve()
	return h
}

// run runs a command of root's against the running sallyport.
func (h *approvingHost) approvals(args ...string) (string, error) {
	h.t.Helper()
	cmd := h.command(append([]string{"approvals", "-c", h.config}, args...)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var opens = regexp.MustCompile(`open (\S+)\n`)

// decide decides as a person who logs in with a browser.
func (h *approvingHost) decide(verb, id, subject, groups string) (string, error) {
	h.t.Helper()
	return h.login(subject, groups, "approvals", "-c", h.config, verb, id, "--why", "duplicate visit, ticket 4711")
}

// login runs a command for which a person logs in with a browser.
func (h *approvingHost) login(subject, groups string, args ...string) (string, error) {
	h.t.Helper()
	cmd := h.command(args...)
	said := &syncBuffer{}
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = cmd.Process.Kill() })
	at := ""
	within(h.t, "an address is shown", func() bool {
		m := opens.FindStringSubmatch(said.String())
		if m != nil {
			at = m[1]
		}
		return m != nil
	})
	h.browse(at, subject, groups)
	err := cmd.Wait()
	return said.String(), err
}

// browse is a browser: it follows where it is sent, and logs a person in there.
func (h *approvingHost) browse(at, subject, groups string) {
	h.t.Helper()
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range 6 {
		resp, err := c.Get(at)
		if err != nil {
			h.t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			if !strings.Contains(string(body), "You have logged in") {
				h.t.Fatalf("%s: %s", at, body)
			}
			return
		}
		next, err := resp.Location()
		if err != nil {
			h.t.Fatalf("%s: %s %s", at, resp.Status, body)
		}
		if next.Path == "/-/person" {
			q := next.Query()
			q.Set("subject", subject)
			q.Set("groups", groups)
			next.RawQuery = q.Encode()
		}
		at = next.String()
	}
	h.t.Fatal("the browser is sent round and round")
}

var approvalID = regexp.MustCompile(`ap-[a-z2-7]{20}`)

// pendingID waits for the one request that waits.
func (h *approvingHost) pendingID() (id string) {
	h.t.Helper()
	within(h.t, "a request waits", func() bool {
		out, err := h.approvals("ls")
		for line := range strings.Lines(out) {
			if err == nil && strings.Contains(line, " pending ") {
				id = approvalID.FindString(line)
			}
		}
		return id != ""
	})
	return id
}

func (h *approvingHost) rows() string {
	h.t.Helper()
	out, err := exec.Command("psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server), "-U", "postgres", "-c", "SELECT string_agg(id::text, ',' ORDER BY id) FROM visits").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// A statement is refused with its request; a lead who logs in approves it, and it
// runs once, over a restart too. Everybody else decides nothing.
func TestApprovalOfAStatement(t *testing.T) {
	h := newApprovingHost(t, "retry")
	token := h.token("agent-a")
	const sql = "DELETE FROM visits WHERE id = 1 AND note = 'a\x1b[2J'  OR id = 1"
	ask := func() string {
		out, _ := h.psqlWith(token, "-c", sql)
		return out
	}
	out := ask()
	id := approvalID.FindString(out)
	if id == "" || !has(out, "somebody", "approval") && !has(out, "asks for an approval: rows of patients", "sallyport approvals wait "+id) {
		t.Fatalf("%s", out)
	}
	out, err := h.approvals("show", id)
	if err != nil || !has(out, "DELETE FROM visits", `a\x1b[2J`, "agent-a", "delete public.visits", "the planner's estimate", "asked for 1 time since", "bound to the connection by") || strings.Contains(out, "\x1b") {
		t.Errorf("%v: %q", err, out)
	}
	// Its agent hears of it, and nobody decides by that.
	own := func(args ...string) (string, error) {
		b, err := h.agent(token, append([]string{h.binary(), "approvals"}, args...)...).CombinedOutput()
		return string(b), err
	}
	if out, err := own("wait", id, "--timeout", "1ms"); err == nil || !has(out, "in time") {
		t.Errorf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"ls"}, {"show", id}, {"approve", id, "--why", "because I say so"}} {
		if out, err := own(append(args, "-c", h.config)...); err == nil {
			t.Errorf("an agent may %v: %s", args, out)
		}
	}
	for subject, groups := range map[string]string{"mallory": "staff", "agent-a": "leads"} {
		if out, err := h.decide("approve", id, subject, groups); err == nil || has(out, "is approved") {
			t.Errorf("%s of %s approves: %s", subject, groups, out)
		}
	}
	if got := ask(); !has(got, id) || h.rows() != "1,2,3" {
		t.Errorf("%s", got)
	}
	out, err = h.decide("approve", id, "dr-lee", "staff leads")
	if err != nil || !has(out, id+" is approved", `a\x1b[2J`) {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := own("wait", id); err != nil || !has(out, "is approved") {
		t.Errorf("%v: %s", err, out)
	}
	// Nothing of it is lost when the daemon is killed, nor is it there twice.
	_ = syscall.Kill(h.daemon(), syscall.SIGKILL)
	h.wait()
	h.serve()
	if out, _ := h.psqlWith(token, "-c", "DELETE FROM visits WHERE id = 2"); !has(out, "asks for an approval") {
		t.Errorf("%s", out)
	}
	if got := ask(); !has(got, "DELETE 1") {
		t.Errorf("%s", got)
	}
	_ = syscall.Kill(h.daemon(), syscall.SIGKILL)
	h.wait()
	h.serve()
	if got := ask(); !has(got, "asks for an approval") || strings.Contains(got, id) || h.rows() != "2,3" {
		t.Errorf("%s", got)
	}
	h.stop()
	steps := ""
	for _, e := range h.record() {
		if e.Approval != nil && e.Approval.ID == id {
			steps += e.Approval.Step + " "
			if a := e.Approval; a.Step == "approved" && (a.Approver != "dr-lee" || a.Issuer != h.people.Issuer || a.Why != "duplicate visit, ticket 4711" || a.Proof != "oidc+nonce") {
				t.Errorf("%+v", a)
			}
		}
	}
	if steps != "requested seen approved consumed " {
		t.Errorf("on the record: %s", steps)
	}
}

// A client that is held goes on when its statement is approved; one that is held
// when sallyport ends is told, and nothing is lost.
func TestApprovalOfAHeldClient(t *testing.T) {
	h := newApprovingHost(t, "5m")
	s := h.shell(h.token("agent-a"))
	done := make(chan string, 1)
	go func() { out, errs := s.run("DELETE FROM visits WHERE id = 1 RETURNING 'gone'"); done <- out + errs }()
	id := h.pendingID()
	if out, err := h.decide("approve", id, "dr-lee", "leads"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out := <-done; !has(out, "gone", "NOTICE", id) || h.rows() != "2,3" {
		t.Errorf("%s", out)
	}
	go func() { out, errs := s.run("DELETE FROM visits WHERE id = 2"); done <- out + errs }()
	id = h.pendingID()
	h.stop()
	if out := <-done; !has(out, "sallyport") || has(out, "DELETE 1") {
		t.Errorf("%s", out)
	}
	h.serve()
	if got := h.pendingID(); got != id {
		t.Errorf("%s, not %s", got, id)
	}
	if out, err := h.decide("deny", id, "dr-lee", "leads"); err != nil || !has(out, "is denied") {
		t.Errorf("%v: %s", err, out)
	}
	if out, _ := h.psql("agent-a", "-c", "DELETE FROM visits WHERE id = 2;"); !has(out, "denied", "ticket 4711") || h.rows() != "2,3" {
		t.Errorf("%s", out)
	}
}
