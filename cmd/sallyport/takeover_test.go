package main

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

// takeOver starts a sallyport over the one that serves, and returns when the
// new one does and the old one has ended; in between it calls meanwhile.
func (h *host) takeOver(meanwhile func()) (old *syncBuffer) {
	h.t.Helper()
	before, log := h.loader, h.log
	h.start()
	done := make(chan error, 1)
	go func() { done <- before.Wait() }()
	if meanwhile != nil {
		meanwhile()
	}
	h.notified("READY=1")
	select {
	case err := <-done:
		if err != nil {
			h.t.Fatalf("the old sallyport: %v; log:\n%s", err, log)
		}
	case <-time.After(2 * time.Minute):
		_ = before.Process.Kill()
		h.t.Fatalf("the old sallyport does not end; log:\n%s", log)
	}
	return log
}

// Agents that connect 1,000 times a second do not notice that one sallyport
// takes over from another: none is refused, and none gets round them.
func TestTakeOverUnderLoad(t *testing.T) {
	server, pgLog := startPostgresWith(t, "-c max_connections=600 -c log_connections=on")
	h := newHost(t, server)
	h.more = "limits: {handover: 1500ms}\n"
	h.configure()
	h.serve()
	token := h.token("agent-a")
	idle, open := h.shell(token), h.shell(token)
	idle.run("select 1")
	open.run("begin")
	busy := h.agent(token, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server), "-c", "select 'finished' where pg_sleep(1.2) is not null")
	var out syncBuffer
	busy.Stdout, busy.Stderr = &out, &out
	time.Sleep(1100 * time.Millisecond) // idle is that now
	storm := h.storming(token, 1000, 6000, 10)
	if err := stand.Launch(busy); err != nil {
		t.Fatal(err)
	}
	time.Sleep(700 * time.Millisecond)
	first := h.daemon()
	began := time.Now()
	h.takeOver(nil)
	t.Logf("the take-over took %v", time.Since(began))
	if now := h.daemon(); now == first {
		t.Error("the daemon is the old one")
	}
	if err := busy.Wait(); err != nil || out.String() != "finished\n" {
		t.Errorf("the statement in flight: %v, %q", err, &out)
	}
	for name, s := range map[string]*shell{"the idle session": idle, "the open transaction": open} {
		out, _ := s.run("select 2")
		_ = s.cmd.Wait()
		if has(out, "2\n") || !has(s.errs.String(), "the passage is closing") {
			t.Errorf("%s: %q, %s", name, out, &s.errs)
		}
	}
	s := <-storm
	t.Logf("%d connections in %.2f s (%.0f a second): %d probes, %d sessions; the slowest took %.2f s", s.Started, s.Seconds, float64(s.Started)/s.Seconds, s.Probes, s.Sessions, s.Slowest)
	if s.Failed > 0 || s.Probes+s.Sessions != s.Started || s.Started != 6000 {
		t.Errorf("%+v", s)
	}
	h.stop()
	// Every connection that the server saw is a session on the record.
	text, err := os.ReadFile(pgLog)
	if err != nil {
		t.Fatal(err)
	}
	all := h.record()
	opened, closed := recorded(all, events.SessionOpen), recorded(all, events.SessionClose)
	if n := bytes.Count(text, []byte("connection received")); n != len(opened) || n != s.Sessions+3 {
		t.Errorf("the server saw %d connections, %d are on the record, %d agents had one", n, len(opened), s.Sessions+3)
	}
	if len(opened) != len(closed) {
		t.Errorf("%d sessions began, %d ended", len(opened), len(closed))
	}
	for _, c := range closed {
		if c.Status == "interrupted" {
			t.Errorf("%+v", c)
		}
	}
	var life []string
	for _, l := range recorded(all, events.Lifecycle) {
		life = append(life, l.Status)
	}
	if strings.Join(life, " ") != "start stop start stop" {
		t.Errorf("%v", life)
	}
	if b := recorded(all, events.Bypass); len(b) > 0 {
		t.Errorf("bypasses: %+v", b)
	}
}

// What is wrong with the new one is said before anything is touched.
func TestTakeOverRefused(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	token := h.token("agent-a")
	pid := h.daemon()
	good, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, old, now string
		code           int
		want           []string
	}{
		{"port", ", port: " + strconv.Itoa(int(h.port)), ", port: " + strconv.Itoa(int(h.port)+1), 1, []string{"interception.port differ", "restart"}},
		{"state", "/state", "/state2", 1, []string{"state differ", "restart"}},
		{"pins", "/sallyport}", "/other}", 1, []string{"interception.pins differ", "restart"}},
		{"policy", "metrics:", "policy: none.yaml\nmetrics:", 2, []string{"none.yaml", "no such file"}},
		{"user", `user: "`, `user: "nobody-`, 2, []string{"user"}},
	} {
		text := strings.Replace(string(good), c.old, c.now, 1)
		if text == string(good) {
			t.Fatalf("%s: %q is not in the configuration", c.name, c.old)
		}
		h.write(h.config, text)
		second := &host{t: t, config: h.config, ready: h.ready}
		second.start()
		if code := second.wait(); code != c.code || !has(second.log.String(), c.want...) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", c.name, code, c.code, c.want, second.log)
		}
	}
	h.write(h.config, string(good))
	// Pins of a later version's.
	later := h.pins + "/v99"
	if err := os.Mkdir(later, 0o700); err != nil {
		t.Fatal(err)
	}
	second := &host{t: t, config: h.config, ready: h.ready}
	second.start()
	code := second.wait()
	if err := os.Remove(later); err != nil {
		t.Fatal(err)
	}
	if code != 1 || !has(second.log.String(), "take over", "layout 99") {
		t.Errorf("a newer layout: %d %s", code, second.log)
	}
	if out, err := h.psqlWith(token, "-c", "select 42"); err != nil || out != "42\n" || h.daemon() != pid {
		t.Errorf("%q, %v", out, err)
	}
	h.stop()
}

// One that hangs up before the old one has ended leaves the old one serving.
func TestTakeOverCalledOff(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	token := h.token("agent-a")
	pid := h.daemon()
	terms := map[string]string{"state": h.dir + "/state", "interception.port": strconv.Itoa(int(h.port)), "interception.pins": h.pins}
	for _, last := range []string{sayTakeover, sayPassage, sayHold, sayDrained} {
		talk, err := privsep.Call(t.Context(), h.run+"/control.sock")
		if err != nil {
			t.Fatal(err)
		}
		say := func(m privsep.Message) {
			if err := talk.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		hear := func(do string) {
			m, err := talk.Receive(20 * time.Second)
			closeAll(m.FDs)
			if err != nil || m.Do != do {
				t.Fatalf("%s instead of %s: %s %v", m.Do, do, m.Text, err)
			}
		}
		say(privsep.Message{Do: sayTakeover, Terms: terms})
		if last != sayTakeover {
			hear(sayPassage)
		}
		// Who connects now waits, and is served when it has come to nothing.
		waits := h.agent(token, "psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server), "-c", "select 'served'")
		var out bytes.Buffer
		waits.Stdout, waits.Stderr = &out, &out
		if err := stand.Launch(waits); err != nil {
			t.Fatal(err)
		}
		if last == sayHold || last == sayDrained {
			say(privsep.Message{Do: sayHold})
		}
		if last == sayDrained {
			hear(sayDrained)
		}
		time.Sleep(100 * time.Millisecond)
		talk.Close()
		if err := waits.Wait(); err != nil || out.String() != "served\n" {
			t.Errorf("hung up after %s: %v %q", last, err, &out)
		}
	}
	if h.daemon() != pid {
		t.Error("the daemon is another one")
	}
	h.stop()
	if !has(h.log.String(), "the new sallyport has hung up") {
		t.Error("it is not told")
	}
}

// A successor that dies when the old one has ended leaves nobody through.
func TestSuccessorDies(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	cmd, in, out := h.waiting(h.token("agent-a"))
	talk, err := privsep.Call(t.Context(), h.run+"/control.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	var held []int
	defer func() { closeAll(held) }()
	step := func(say privsep.Message, hear string) {
		t.Helper()
		err := talk.Send(say)
		if err != nil {
			t.Fatal(err)
		}
		m, err := talk.Receive(20 * time.Second)
		held = append(held, m.FDs...)
		if err != nil || m.Do != hear {
			t.Fatalf("%s instead of %s: %s %v", m.Do, hear, m.Text, err)
		}
	}
	terms := map[string]string{"state": h.dir + "/state", "interception.port": strconv.Itoa(int(h.port)), "interception.pins": h.pins}
	step(privsep.Message{Do: sayTakeover, Terms: terms}, sayPassage)
	step(privsep.Message{Do: sayHold}, sayDrained)
	step(privsep.Message{Do: sayGo}, sayOver)
	if code := h.wait(); code != 0 {
		t.Errorf("exit code %d: %s", code, h.log)
	}
	in.Close()
	time.Sleep(500 * time.Millisecond)
	if has(out.String(), "refused") {
		t.Errorf("it does not wait: %s", out)
	}
	closeAll(held)
	held = nil
	if err := cmd.Wait(); err == nil || has(out.String(), "served\n") {
		t.Errorf("%v: %s", err, out)
	}
	if !h.guardIsUp() {
		t.Error("the guard is not up")
	}
	// The next one finds its way.
	h.serve()
	h.stop()
}

// What listens in a network namespace of an agent's goes on there.
func TestTakeOverInANamespace(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.serve()
	query := "psql -X -A -t -h 127.0.0.1 -p " + port(h.server) + " -c \"select 'an' || 'swer'\""
	cmd := h.agent(h.token("agent-a"), "unshare", "-rn", "sh", "-c",
		"ip link set lo up; for i in 1 2 3 4 5 6 7 8 9 10; do "+query+" && break; sleep .1; done; echo first; read x; "+query+"; echo second; read x; "+query)
	var out syncBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	answers := func() int { return strings.Count(out.String(), "answer") }
	within(t, "an answer", func() bool { return has(out.String(), "first") })
	listening := func() int {
		s, err := redirect.GetStatus(h.pins)
		if err != nil {
			t.Fatal(err)
		}
		return s.Listening
	}
	if n := listening(); n != 2 || answers() != 1 {
		t.Fatalf("%d namespaces, %s", n, &out)
	}
	h.takeOver(func() { _, _ = in.Write([]byte("\n")) }) // it asks meanwhile
	within(t, "an answer of the new one", func() bool { return has(out.String(), "second") })
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || answers() != 3 {
		t.Errorf("%v: %s", err, &out)
	}
	within(t, "the namespace's passage is gone with it", func() bool { return listening() == 1 })
	h.stop()
}

// Nobody but root may ask, and nonsense changes nothing.
func TestControlRefuses(t *testing.T) {
	h := newHost(t, "")
	h.serve()
	talk, err := privsep.Call(t.Context(), h.run+"/control.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer talk.Close()
	if err := talk.Send(privsep.Message{Do: "dance"}); err != nil {
		t.Fatal(err)
	}
	if m, err := talk.Receive(10 * time.Second); err != nil || m.Do != sayRefused || !has(m.Text, "dance") {
		t.Errorf("%+v, %v", m, err)
	}
	down := exec.Command("/proc/self/exe", "guard", "down", "-c", h.config)
	_ = os.Chmod(h.config, 0o644)
	down.Env = []string{"SALLYPORT_TEST=1"}
	down.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: agentUID, Gid: agentUID}}
	if out, err := down.CombinedOutput(); err == nil || !has(string(out), "use sudo") {
		t.Errorf("%v %s", err, out)
	}
	if s, err := redirect.GetStatus(h.pins); err != nil || !s.Up || !s.Daemon {
		t.Errorf("%+v, %v", s, err)
	}
	h.stop()
}
