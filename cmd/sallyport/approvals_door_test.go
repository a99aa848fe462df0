package main

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
)

// Approvers ask another host from their own machine, without root and configuration.
// Who logs in by device code is shown what they may decide, and decides nothing.
func TestApprovalsOfAnotherHost(t *testing.T) {
	h := approvaltest.Start(t, "db1")
	id := h.Ask(approvaltest.Statement{Text: "DELETE FROM visits WHERE id = 1 -- \x1b[2J"})
	foreign := h.Ask(approvaltest.Statement{Text: "DELETE FROM visits WHERE id = 2", Group: "surgeons"})
	h.Token("n", "dr-lee", "staff leads") // the issuer knows their groups from now on
	h.Token("n", "clerk", "staff")
	door := []string{"--nats", h.NATS.URL(), "--nkey", h.NATS.SeedFile(jetstream.RoleApprovals), "--host", "db1"}
	run := func(person string, args ...string) (string, error) {
		t.Helper()
		cmd := rootCmd()
		var out bytes.Buffer
		said, errs := io.Pipe()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			for lines := bufio.NewScanner(said); lines.Scan(); {
				if _, code, ok := strings.Cut(lines.Text(), "see that it shows "); ok {
					h.People.Approve(code, person)
				}
			}
		}()
		cmd.SetOut(&out)
		cmd.SetErr(errs)
		cmd.SetArgs(append(append([]string{"approvals"}, args...), door...))
		err := cmd.ExecuteContext(t.Context())
		errs.Close()
		<-answered
		return out.String(), err
	}
	if out, err := run("", "ls"); err != nil || !has(out, id, foreign) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("dr-lee", "ls", "--device"); err != nil || !has(out, id) || strings.Contains(out, foreign) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := run("clerk", "ls", "--device"); err != nil || strings.Contains(out, "ap-") {
		t.Errorf("%v: %s", err, out)
	}
	for person, want := range map[string]string{"clerk": id, "dr-lee": foreign} {
		if out, err := run(person, "show", want, "--device"); err == nil || strings.Contains(out, "DELETE") {
			t.Errorf("%s is shown %s: %s", person, want, out)
		}
	}
	if out, err := run("dr-lee", "show", id, "--device", "--issuer", h.People.Issuer); err != nil || !has(out, "DELETE FROM visits", `\x1b[2J`) || strings.Contains(out, "\x1b") {
		t.Errorf("%v: %s", err, out)
	}
	if got := h.Steps(); !strings.HasSuffix(got, " seen:dr-lee") {
		t.Errorf("on the record: %s", got)
	}
	if out, err := run("dr-lee", "approve", id, "--device", "--why", "duplicate visit"); err == nil || !has(err.Error(), "can't carry what is decided") {
		t.Errorf("%v: %s", err, out)
	}
	// No log-in begins where a shell completes a word.
	completing := rootCmd()
	var words bytes.Buffer
	completing.SetOut(&words)
	completing.SetErr(io.Discard)
	completing.SetArgs(append(append([]string{"__complete", "approvals", "show", "--device"}, door...), "ap-"))
	if err := completing.ExecuteContext(t.Context()); err != nil || !has(words.String(), id) {
		t.Errorf("%v: %s", err, words.String())
	}
	if ran, _, state := h.Run(approvaltest.Statement{Text: "DELETE FROM visits WHERE id = 1 -- \x1b[2J"}); ran || state != "pending" {
		t.Errorf("ran %v, %s", ran, state)
	}
	for want, args := range map[string][]string{
		"--nkey":     {"--nats", h.NATS.URL()},
		"use tls://": {"--nats", "nats://nats.example.com:4222", "--nkey", "approvals.nk", "--host", "db1"},
	} {
		cmd := rootCmd()
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		cmd.SetArgs(append([]string{"approvals", "ls"}, args...))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !has(err.Error(), want) {
			t.Error(err)
		}
	}
}
