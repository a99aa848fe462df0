package main

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
)

// A daemon that dies leaves nobody through, and takes its loader along.
func TestDaemonKilled(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	token := h.token("agent-a")
	sleep := h.agent(token, "psql", "-X", "-h", "127.0.0.1", "-p", port(h.server), "-c", "select pg_sleep(60)")
	var out syncBuffer
	sleep.Stdout, sleep.Stderr = &out, &out
	if err := stand.Launch(sleep); err != nil {
		t.Fatal(err)
	}
	within(t, "a session", func() bool { return h.metric(`sallyport_sessions{resource="clinic"}`) == "1" })
	// The agent enters its cgroup while there is a loader to put it there.
	later := h.agent(token, "sh", "-c", "echo here; read x; psql -X -h 127.0.0.1 -p "+port(h.server)+" -c 'select 1'")
	var lateOut syncBuffer
	later.Stdout, later.Stderr = &lateOut, &lateOut
	in, err := later.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stand.Launch(later); err != nil {
		t.Fatal(err)
	}
	within(t, "the agent of later", func() bool { return lateOut.String() != "" })
	if err := syscall.Kill(h.daemon(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := h.wait(); code != 1 || !has(h.log.String(), "the daemon died: ", "killed", "covered connections are refused") {
		t.Errorf("exit code %d: %s", code, h.log)
	}
	if err := sleep.Wait(); err == nil {
		t.Errorf("the session went on: %s", &out)
	}
	fmt.Fprintln(in)
	if err := later.Wait(); err == nil || !has(lateOut.String(), "refused") && !has(lateOut.String(), "not permitted") {
		t.Errorf("without a daemon: %v, %s", err, &lateOut)
	}
	if s, err := redirect.GetStatus(h.pins); err != nil || !s.Up {
		t.Errorf("the guard: %+v, %v", s, err)
	}
	// It comes back, and closes the record of what was open.
	h.serve()
	if out, err := h.psqlWith(token, "-c", "select 42"); err != nil || out != "42\n" {
		t.Errorf("%q, %v", out, err)
	}
	h.stop()
	var ends []string
	for _, v := range recorded(h.record(), events.SessionClose) {
		ends = append(ends, v.Status)
	}
	if strings.Join(ends, " ") != "interrupted ok" {
		t.Errorf("%v", ends)
	}
	h.alerts("interrupted")
}

// SIGTERM lets the statement in flight finish, and nobody new in.
func TestDrain(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	token := h.token("agent-a")
	cmd := h.agent(token, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server),
		"-c", "select 'begun' where pg_sleep(3) is not null", "-c", "select 'second'")
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	idle := h.shell(token)
	if out, errs := idle.run("select 'idle'"); out != "idle\n" {
		t.Fatalf("%q, %s", out, errs)
	}
	within(t, "two sessions", func() bool { return h.metric(`sallyport_sessions{resource="clinic"}`) == "2" })
	time.Sleep(500 * time.Millisecond) // the statement is in flight
	h.stop()
	if err := cmd.Wait(); err == nil || !has(out.String(), "begun") || has(out.String(), "second") {
		t.Errorf("%v %q", err, &out)
	}
	all := h.record()
	if open, closed := recorded(all, events.SessionOpen), recorded(all, events.SessionClose); len(open) != 2 || len(closed) != 2 {
		t.Errorf("%d opened, %d closed", len(open), len(closed))
	}
	found := false
	for _, r := range recorded(all, events.Response) {
		if r.Status == "ok" && r.Rows == 1 && r.Duration > 2*time.Second {
			found = true
		}
	}
	if !found {
		t.Errorf("no outcome of the statement in flight: %+v", recorded(all, events.Response))
	}
}

// What does not end by itself ends after the drain's time.
func TestDrainEnds(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.more = "limits: {drain: 1s}\n"
	h.configure()
	h.serve()
	cmd := h.agent(h.token("agent-a"), "psql", "-X", "-h", "127.0.0.1", "-p", port(h.server), "-c", "select pg_sleep(600)")
	var out syncBuffer
	cmd.Stderr = &out
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	within(t, "a session", func() bool { return h.metric(`sallyport_sessions{resource="clinic"}`) == "1" })
	time.Sleep(300 * time.Millisecond)
	start := time.Now()
	h.stop()
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("it took %s", d)
	}
	if err := cmd.Wait(); err == nil || !has(out.String(), "FATAL", "the passage is closing") {
		t.Errorf("the statement in flight: %v %s", err, &out)
	}
	if closed := recorded(h.record(), events.SessionClose); len(closed) != 1 || closed[0].Status == "ok" || has(closed[0].Reason, "died") {
		t.Errorf("%+v", closed)
	}
}

// A full journal refuses, in the protocol's own words, running sessions too.
func TestFullJournal(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.journal = "max_bytes: 4194304, segment_bytes: 1048576"
	h.configure()
	h.serve()
	token := h.token("agent-a")
	cmd := h.agent(token, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server))
	cmd.Stdin = strings.NewReader(strings.Repeat("select repeat('y', 1000);\n", 3000) + "select 'still' || ' here';\n")
	var out, errs syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	// In place of a statement, or of the rest of its result.
	if !has(errs.String(), ":  sallyport", "audit record") || has(out.String(), "still here") || !has(out.String(), "yyyy") {
		t.Errorf("a running session: %d bytes, %.1000s", len(out.String()), errs.String())
	}
	// The end of a session gives its room back: others may begin, until they may not.
	other := h.token("agent-b")
	for name, token := range map[string]string{"a new session": token, "a refused session": other} {
		var got string
		for range 200 {
			if got, _ = h.psqlWith(token, "-c", "select 1"); has(got, "FATAL", "audit record") {
				break
			}
		}
		if !has(got, "FATAL", "audit record") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if h.metric("sallyport_unrecorded_total") == "0" || h.metric("sallyport_journal_failing") != "0" {
		t.Errorf("metrics: %s unrecorded, failing %s", h.metric("sallyport_unrecorded_total"), h.metric("sallyport_journal_failing"))
	}
	// Outcomes had their room: the session's end, and the stop.
	h.stop()
	all := h.record()
	if l := recorded(all, events.Lifecycle); l[len(l)-1].Status != "stop" {
		t.Errorf("%+v", l)
	}
	open, closed := recorded(all, events.SessionOpen), recorded(all, events.SessionClose)
	if len(open) != len(closed) {
		t.Errorf("%d opened, %d closed", len(open), len(closed))
	}
	for _, c := range closed {
		if c.Status == "interrupted" {
			t.Errorf("%+v", c)
		}
	}
	// Full at the start, it starts, and refuses.
	h.serve()
	if got, err := h.psqlWith(token, "-c", "select 1"); err == nil || !has(got, "audit record") {
		t.Errorf("a new session after the restart: %q, %v", got, err)
	}
	h.stop()
}

// Connections to the passage that the kernel did not turn there are closed and
// recorded.
func TestStray(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	cfg, err := config.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	g, err := redirect.Up(guardConfig(cfg, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	// Withdrawn, the port is nobody's to the programs, while the daemon still listens.
	if err := g.Withdraw(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", h.port))
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes", n)
		}
		c.Close()
	}
	within(t, "a stray", func() bool { return h.metric("sallyport_strays_total") == "1" })
	h.stop()
	if b := recorded(h.record(), events.Bypass); len(b) != 1 || !b[0].Source.Addr().IsLoopback() || b[0].Destination.Port() != h.port || !has(b[0].Message, "passage's own port") {
		t.Errorf("%+v", b)
	}
	h.alerts("bypass")
}

// What the kernel refuses is on the record, with the process.
func TestBypassIsRecorded(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	cmd := h.agent(h.token("agent-a"), "bash", "-c", fmt.Sprintf("echo > /dev/tcp/127.0.0.1/%d", h.port))
	if out, err := cmd.CombinedOutput(); err == nil || !has(string(out), "not permitted") {
		t.Errorf("the passage was dialled: %s", out)
	}
	within(t, "a bypass", func() bool { return h.metric("sallyport_bypasses_total") == "1" })
	if h.metric("sallyport_guard_refused_total") != "1" {
		t.Errorf("the kernel's counter: %s", h.metric("sallyport_guard_refused_total"))
	}
	h.stop()
	b := recorded(h.record(), events.Bypass)
	if len(b) != 1 || b[0].Process.UID != agentUID || b[0].Process.PID == 0 || b[0].Destination.Port() != h.port || b[0].Transport != "tcp" {
		t.Errorf("%+v", b)
	}
}
