package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy/approval"
)

var glassID = regexp.MustCompile(`bg-[a-z2-7]{20}`)

// glass runs a command about emergency access as root.
func (h *approvingHost) glass(args ...string) (string, error) {
	h.t.Helper()
	cmd := h.command(append([]string{"breakglass", "-c", h.config}, args...)...)
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Who is on call opens the glass for a request that was refused, and it runs; somebody
// else reviews it. A restart forgets nothing, and the record has it all.
func TestBreakGlass(t *testing.T) {
	h := newApprovingHost(t, "retry")
	token := h.token("agent-a")
	ask := func(sql string) string {
		out, _ := h.psqlWith(token, "-c", sql)
		return out
	}
	request := approvalID.FindString(ask("DELETE FROM visits WHERE id = 1"))
	if request == "" {
		t.Fatal("nothing asks")
	}
	open := []string{"breakglass", "-c", h.config, "open", "ward emergency", "--request", request, "--why", "patient unconscious, bed 4"}
	if out, err := h.login("dr-lee", "leads", open...); err == nil || !has(out, "does not name you") {
		t.Errorf("%v: %s", err, out)
	}
	if got := ask("DELETE FROM visits WHERE id = 1"); !has(got, request) {
		t.Errorf("%s", got)
	}
	out, err := h.login("dr-kim", "staff on-call", open...)
	id := glassID.FindString(out)
	if err != nil || id == "" || !has(out, id+" is open until", "must be reviewed by", "agent-a") {
		t.Fatalf("%v: %s", err, out)
	}
	if got := ask("DELETE FROM visits WHERE id = 1"); !has(got, "DELETE 1") {
		t.Errorf("%s", got)
	}
	_ = syscall.Kill(h.daemon(), syscall.SIGKILL)
	h.wait()
	h.serve()
	if got := ask("DELETE FROM visits WHERE id = 2"); !has(got, "DELETE 1") || h.rows() != "3" {
		t.Errorf("%s", got)
	}
	if out, err := h.login("dr-kim", "on-call", "breakglass", "-c", h.config, "close", id, "--why", "patient is stable"); err != nil || !has(out, id+" is closed") {
		t.Errorf("%v: %s", err, out)
	}
	if got := ask("DELETE FROM visits WHERE id = 3"); !has(got, "asks for an approval") || h.rows() != "3" {
		t.Errorf("%s", got)
	}
	out, err = h.glass("ls", "--json")
	var list []approval.Glass
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 || list[0].ID != id || list[0].Used != 2 || list[0].State != "closed" || strings.Contains(out, "eyJ") {
		t.Errorf("%v: %s", err, out)
	}
	review := []string{"breakglass", "-c", h.config, "review", id, "--found", "justified", "--why", "seen with ward 3, incident 88"}
	if out, err := h.login("dr-kim", "privacy", review...); err == nil || !has(out, "somebody else must") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := h.login("ann", "privacy", review...); err != nil || !has(out, "patient unconscious, bed 4", "used", "2 statements", id+" is reviewed") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := h.glass("ls"); err != nil || has(out, id) {
		t.Errorf("%v: %s", err, out)
	}
	h.stop()
	var steps, ran []string
	alarm := false
	for _, e := range h.record() {
		switch {
		case e.Kind == events.Alarm.String() && e.Approval != nil && e.Approval.ID == id:
			alarm = alarm || e.Approval.Step == "opened" && has(e.Message, "break-glass", id, "dr-kim") && len(ran) == 0
		case e.Approval != nil && e.Approval.ID == id:
			steps = append(steps, e.Approval.Step)
		case e.Kind == events.Statement.String() && slices.Contains(e.Approvals, id):
			ran = append(ran, e.Normalized)
		}
	}
	if got := strings.Join(steps, " "); got != "opened used closed reviewed" || len(ran) != 2 || !alarm {
		t.Errorf("on the record: %s; %q ran; the alarm came first: %v", got, ran, alarm)
	}
}
