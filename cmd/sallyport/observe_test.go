package main

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// observing makes a host in mode host that enforces nothing, and knows nobody.
func observing(h *host) {
	h.more = "enforcement: observe\n"
	h.configure()
	b, err := os.ReadFile(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(h.config, strings.NewReplacer("mode: cgroup, cgroups: [/sallyport.guarded], ", "mode: host, ").Replace(string(b)))
}

// direct runs a client that nobody has prepared for sallyport.
func (h *host) direct(name string, args ...string) (string, error) {
	h.t.Helper()
	addr, port, _ := net.SplitHostPort(h.server)
	cmd := exec.Command(name, append([]string{"-h", addr, "-p", port, "-U", "postgres"}, args...)...)
	cmd.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=20", "PGDATABASE=postgres")
	out, err := cmd.CombinedOutput()
	// pg_dump makes up a word for each dump.
	return restrict.ReplaceAllString(string(out), ""), err
}

var restrict = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`)

const observedPolicy = `rules:
  - {name: reads, effect: allow, identity: "*", resource: "*", commands: read, relations: "*"}
  - {name: names, effect: mask, identity: "*", resource: "*", fields: {public.patients.name: redact}}
`

// Backups and monitoring go on when a guard is put over the whole host, and the
// record tells what would have become of them.
func TestObserve(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.catalog = `, catalog: {user: postgres}`
	h.write(h.policy, observedPolicy)
	if out, err := h.direct("psql", "-X", "-q", "-c", "create table patients (id int, name text)",
		"-c", "insert into patients select i, 'patient number ' || i from generate_series(1, 200000) i"); err != nil {
		t.Fatal(out)
	}
	backup, err := h.direct("pg_dump")
	if err != nil {
		t.Fatal(backup)
	}
	observing(h)
	h.serve()

	if got, err := h.direct("pg_dump"); err != nil || got != backup {
		t.Errorf("a backup of %d bytes is not the same (%d) or failed: %v", len(backup), len(got), err)
	}
	// Without a token; what would have been masked, and what would have been refused.
	if out, err := h.direct("psql", "-X", "-A", "-t", "-c", "select name from patients where id = 7", "-c", "delete from patients where id = 8"); err != nil || out != "patient number 7\nDELETE 1\n" {
		t.Errorf("%q, %v", out, err)
	}
	// With one.
	if out, err := h.psql("agent-a", "-c", "select name from patients where id = 7", "-c", "select count(*) from pg_class where oid = 1", "-c", "delete from patients where id = 9"); err != nil || out != "patient number 7\n0\nDELETE 1\n" {
		t.Errorf("%q, %v", out, err)
	}
	// There is no passage for datagrams: the kernel only tells of them.
	udp, err := net.Dial("udp", h.server)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if _, err := udp.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	within(t, "the kernel's report", func() bool { return h.metric("sallyport_bypasses_total") != "0" })
	for _, cmd := range [][]string{{"guard", "status"}, {"doctor"}} {
		out, _ := h.sallyport(append(cmd, "-c", h.config)...)
		if !strings.Contains(out, "NOTHING IS ENFORCED") {
			t.Errorf("sallyport %s: %s", cmd, out)
		}
	}
	if h.metric("sallyport_enforcing") != "0" || h.metric("sallyport_unobserved_total") != "0" {
		t.Error("metrics do not tell that nothing is enforced, or something was not recorded")
	}
	h.stop()

	all := h.record()
	if a := recorded(all, events.Alarm); len(a) == 0 || !has(a[0].Message, "observe: NOTHING IS ENFORCED") {
		t.Errorf("no alarm: %+v", a)
	}
	if b := recorded(all, events.Bypass); len(b) == 0 || b[0].Reason != "would have been refused (block)" || b[0].Transport != "udp" {
		t.Errorf("bypasses: %+v", b)
	}
	told := func(workload, text string) (found []ocsf.View) {
		for _, v := range recorded(all, events.Statement) {
			if v.Workload == workload && strings.Contains(strings.ToLower(v.Normalized), text) {
				found = append(found, v)
			}
		}
		return found
	}
	for _, c := range []struct{ workload, text, verdict, reason, rule string }{
		{"", "copy public.patients", "observed", "would have been refused (block): ", "identity"},
		{"", "delete from patients", "observed", "would have been refused (block): ", "identity"},
		{"agent-a", "select name from patients", "observed", "would have been masked", "names"},
		{"agent-a", "select count", "allow", "", "reads"},
		{"agent-a", "delete from patients", "observed", "would have been refused (deny): ", "default"},
	} {
		v := told(c.workload, c.text)
		if len(v) == 0 {
			t.Errorf("%q of %q is not on the record", c.text, c.workload)
			continue
		}
		if v[0].Verdict != c.verdict || !strings.HasPrefix(v[0].Reason, c.reason) || len(v[0].Rules) == 0 || v[0].Rules[0] != c.rule || v[0].User != "postgres" {
			t.Errorf("%q of %q: %+v", c.text, c.workload, v[0])
		}
	}
	opened, closed := recorded(all, events.SessionOpen), recorded(all, events.SessionClose)
	if len(opened) != 3 || len(closed) != 3 || closed[0].Status != "observed" || closed[0].Bytes < int64(len(backup))/2 || closed[0].Reason != "" {
		t.Errorf("%d sessions began, %d ended: %+v", len(opened), len(closed), closed)
	}
	for _, v := range recorded(all, events.Login) {
		if !strings.HasSuffix(v.Process.Exe, "/psql") && !strings.HasSuffix(v.Process.Exe, "/pg_dump") {
			t.Errorf("%+v", v.Process)
		}
	}
}

// What is no session of the protocol is relayed like anything else.
func TestObserveRelaysWhatItCannotRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 100)
				for {
					n, err := c.Read(b)
					if err != nil {
						c.Write([]byte("bye"))
						return
					}
					c.Write(b[:n])
				}
			}()
		}
	}()
	h := newHost(t, l.Addr().String())
	observing(h)
	h.serve()
	c, err := net.Dial("tcp", h.server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	b := make([]byte, 100)
	for _, word := range []string{"\x16\x03\x01\x02\x00hello", "and more"} {
		c.Write([]byte(word))
		if n, err := c.Read(b); err != nil || string(b[:n]) != word {
			t.Fatalf("%q, %v", b[:n], err)
		}
	}
	// An end in one direction is not the end of the other.
	c.(*net.TCPConn).CloseWrite()
	if n, err := c.Read(b); err != nil || string(b[:n]) != "bye" {
		t.Errorf("%q, %v", b[:n], err)
	}
	c.Close()
	h.stop()
	closed := recorded(h.record(), events.SessionClose)
	if len(closed) != 1 || !has(closed[0].Reason, "encrypted") || closed[0].Bytes == 0 {
		t.Errorf("%+v", closed)
	}
}

// A record that can't be written holds nobody up, and is missed loudly.
func TestObserveGoesOnUnrecorded(t *testing.T) {
	h := newHost(t, startPostgres(t))
	h.journal = "max_bytes: 4194304, segment_bytes: 1048576"
	observing(h)
	h.serve()
	long := strings.Repeat("x", 100_000)
	within(t, "the journal is full", func() bool {
		if out, err := h.direct("psql", "-X", "-A", "-t", "-c", "select length('"+long+"')"); err != nil || out != "100000\n" {
			t.Fatalf("%q, %v", out, err)
		}
		return h.metric("sallyport_unobserved_total") != "0"
	})
	if out, err := h.direct("psql", "-X", "-A", "-t", "-c", "select 1"); err != nil || out != "1\n" {
		t.Errorf("%q, %v", out, err)
	}
	h.stop()
	if !has(h.log.String(), "cause=unobserved") {
		t.Error("no alarm")
	}
}

// A reload that begins to enforce ends what was relayed until then.
func TestObserveEnds(t *testing.T) {
	h := newHost(t, startPostgres(t))
	observing(h)
	h.serve()
	addr, port, _ := net.SplitHostPort(h.server)
	old := exec.Command("psql", "-X", "-A", "-t", "-h", addr, "-p", port, "-U", "postgres", "-c", "select 1", "-c", "select pg_sleep(120)")
	began := time.Now()
	if err := stand.Launch(old); err != nil {
		t.Fatal(err)
	}
	within(t, "it is relayed", func() bool { return h.metric(`sallyport_decisions_total{verdict="observed"}`) != "0" })
	b, _ := os.ReadFile(h.config)
	h.write(h.config, strings.Replace(string(b), "enforcement: observe", "enforcement: enforce", 1))
	h.signal(syscall.SIGHUP)
	within(t, "it enforces", func() bool { return h.metric("sallyport_enforcing") == "1" })
	if err := old.Wait(); err == nil || time.Since(began) > 80*time.Second {
		t.Errorf("the old connection went on: %v after %s", err, time.Since(began))
	}
	if out, err := h.direct("psql", "-X", "-c", "select 1"); err == nil || !has(out, "FATAL", "sallyport: refused") {
		t.Errorf("%q, %v", out, err)
	}
	h.stop()
}

// sallyport runs a command of the program's.
func (h *host) sallyport(args ...string) (string, error) {
	h.t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
