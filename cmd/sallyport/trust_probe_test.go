package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/ocsf"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
	"sallyport.dev/sallyport/intercept/tlsport"
)

// run starts a program that stays, and returns when it has loaded what it needs.
func (h *trustHost) run(env []string, lib string, args ...string) int {
	h.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := stand.Launch(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	within(h.t, args[0]+" with "+lib, func() bool {
		maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
		return strings.Contains(string(maps), lib)
	})
	return cmd.Process.Pid
}

func (h *trustHost) probe(args ...string) map[int]probed {
	h.t.Helper()
	out, err := command(append([]string{"trust", "probe", "--json", "-c", h.config}, args...)...)
	var list []probed
	if jerr := json.Unmarshal([]byte(out), &list); jerr != nil {
		h.t.Fatalf("%v, %v: %s", err, jerr, out)
	}
	all, bad := map[int]probed{}, false
	for _, p := range list {
		all[p.PID] = p
		bad = bad || p.Verdict != trusts && p.Verdict != unknown
	}
	if bad != (err != nil) {
		h.t.Errorf("%v after %+v", err, list)
	}
	return all
}

// silent listens and says nothing, so that its clients stay.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// What is inferred of real processes by what they were started with.
func TestTrustProbeInfers(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	file := func(name string, text []byte) string {
		t.Helper()
		name = filepath.Join(h.dir, name)
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	own := file("own.pem", []byte(h.sallyport("trust", "show", "--pem", "--root", h.dir)))
	another, err := tlsport.NewAuthority("another", tlsport.Permitted{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	other := file("other.pem", pemOf(another.Root()))
	pinned := file("pinned.pem", pemChain(forged(t, h.files(), "db.test").Certificate[:1]))
	none := file("none.pem", []byte("nothing"))
	fifo := filepath.Join(h.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	huge := file("huge", nil)
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Fatal(err)
	}
	port := silent(t)
	javac(t, h.dir, "Stay", `public class Stay { public static void main(String[] a) throws Exception { Thread.sleep(600000); } }`)
	psql := []string{"libpq", "/usr/lib/postgresql/15/bin/psql", "host=127.0.0.1 port=" + port}
	if _, err := os.Stat(psql[1]); err != nil {
		psql[1] = "psql"
	}
	node := []string{"node", "node", "-e", "setInterval(()=>{},1000)"}
	python := []string{"libssl", "/usr/bin/python3", "-c", "import ssl,time; time.sleep(600)"}
	java := []string{"libjvm", "java", "-cp", h.dir, "Stay"}
	curl := []string{"libssl", "curl", "-s", "https://127.0.0.1:" + port}
	for _, c := range []struct {
		what string
		env  string
		args []string
		want string
	}{
		{"libpq by itself", "", psql, trusts},
		{"libpq, verify-full without roots", "PGSSLMODE=verify-full", psql, refuses},
		{"libpq, ours", "PGSSLMODE=verify-full PGSSLROOTCERT=" + own, psql, trusts},
		{"libpq, another", "PGSSLMODE=verify-full PGSSLROOTCERT=" + other, psql, refuses},
		{"libpq, a server's certificate", "PGSSLMODE=verify-ca PGSSLROOTCERT=" + pinned, psql, pins},
		{"libpq, a client's certificate", "PGSSLMODE=verify-full PGSSLROOTCERT=" + own + " PGSSLCERT=" + pinned, psql, clientCert},
		{"node by itself", "", node, refuses},
		{"node, ours", "NODE_EXTRA_CA_CERTS=" + own, node, trusts},
		{"node, another", "NODE_EXTRA_CA_CERTS=" + other, node, refuses},
		{"node, nothing verified", "NODE_TLS_REJECT_UNAUTHORIZED=0", node, trusts},
		{"python by itself", "", python, refuses},
		{"python, ours", "SSL_CERT_FILE=" + own, python, trusts},
		{"python, requests", "REQUESTS_CA_BUNDLE=" + own, python, trusts},
		{"curl, ours", "SSL_CERT_FILE=" + own, curl, trusts},
		{"curl, another", "SSL_CERT_FILE=" + other, curl, refuses},
		{"java by itself", "", java, refuses},
		{"java, a store of its own", "JAVA_TOOL_OPTIONS=-Djavax.net.ssl.keyStore=" + pinned, java, clientCert},
		{"nothing in it", "SSL_CERT_FILE=" + none, python, refuses},
		// What a process names may be anything.
		{"a pipe", "NODE_EXTRA_CA_CERTS=" + fifo, node, unknown},
		{"a device", "NODE_EXTRA_CA_CERTS=/dev/zero", node, unknown},
		{"the kernel's log", "NODE_EXTRA_CA_CERTS=/proc/kmsg", node, refuses},
		{"very much", "NODE_EXTRA_CA_CERTS=" + huge, node, unknown},
		{"not there", "NODE_EXTRA_CA_CERTS=/nowhere", node, unknown},
		{"relative", "NODE_EXTRA_CA_CERTS=own.pem", node, unknown},
	} {
		pid := h.run(strings.Fields(c.env), c.args[0], c.args[1:]...)
		began := time.Now()
		p := h.probe(strconv.Itoa(pid))[pid]
		if p.Verdict != c.want || p.Seen || len(p.Reasons) == 0 {
			t.Errorf("%s: %+v, want %s", c.what, p, c.want)
		}
		if d := time.Since(began); d > 2*probeTime {
			t.Errorf("%s takes %s", c.what, d)
		}
	}
}

// The stores that count are those in the process's own root.
func TestTrustProbeLooksInside(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	h.view()
	h.must("trust", "install")
	program := []string{"/usr/bin/python3", "-c", "import ssl,time; time.sleep(600)"}
	inside := h.run(nil, "libssl", append([]string{"nsenter", "-t", strconv.Itoa(h.pid), "-m", "--"}, program...)...)
	outside := h.run(nil, "libssl", program...)
	all := h.probe(strconv.Itoa(inside), strconv.Itoa(outside))
	if all[inside].Verdict != trusts || all[outside].Verdict != refuses {
		t.Errorf("%+v", all)
	}
}

// Handshakes on the record say more than what can be inferred; those of the guard
// are the processes that are looked at.
func TestTrustProbeSees(t *testing.T) {
	h := newTrustHost(t, "[db.test, 127.0.0.1]")
	cgroup := redirecttest.Cgroup(t)
	text, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.config, append(text, "interception: {mode: cgroup, cgroups: ["+cgroup+"]}\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(h.dir, "own.pem")
	if err := os.WriteFile(own, []byte(h.sallyport("trust", "show", "--pem", "--root", h.dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := stay(t, cgroup, "env", "SSL_CERT_FILE="+own)
	j, err := journal.Open(filepath.Join(h.dir, "state/journal"), journal.Options{Host: "trusthost", Encode: ocsf.Append})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	v, err := view(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer v.close()
	process := events.Process{PID: uint32(pid), Start: v.start * tick, Exe: v.exe, Cgroup: cgroup}
	n := 0
	record := func(e events.Event, p events.Process, client events.TLS, clear bool) {
		t.Helper()
		n++
		e.Session = &events.Session{ID: fmt.Sprint("s", n), Host: "trusthost", Protocol: "postgres", Resource: "db", Process: p, ClientTLS: client, ClientClear: clear}
		e.Time = time.Now()
		ticket, err := j.Append(&e)
		if err == nil {
			err = ticket.Wait(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(alert string) events.Event {
		return events.Event{Kind: events.Login, Verdict: events.Blocked, Rules: []string{"tls"}, Status: "error", Reason: "protocols: TLS with the client failed: remote error: tls: " + alert}
	}
	expect := func(step, verdict string, seen bool) {
		t.Helper()
		all := h.probe()
		if p, ok := all[pid]; !ok || len(all) != 1 || p.Verdict != verdict || p.Seen != seen {
			t.Errorf("%s: %+v, want %s", step, all, verdict)
		}
	}
	expect("nothing recorded", unknown, false)
	another := process
	another.PID, another.Exe = 1, "/usr/bin/another"
	record(refused("unknown certificate authority"), another, events.TLS{}, false)
	expect("of another process", unknown, false)
	older := process
	older.Start -= 1000 * tick // the number was another process's before
	older.Exe = "/usr/bin/another"
	record(refused("unknown certificate authority"), older, events.TLS{}, false)
	expect("of one with its number", unknown, false)
	record(refused("unknown certificate authority"), process, events.TLS{}, false)
	expect("refused", refuses, true)
	record(events.Event{Kind: events.SessionOpen}, process, events.TLS{Version: "1.3"}, false)
	expect("came in", trusts, true)
	record(refused("bad certificate"), process, events.TLS{}, false)
	expect("wants another", refuses, true)
	record(events.Event{Kind: events.SessionOpen}, process, events.TLS{}, true)
	expect("in clear", unknown, true)
	later := process
	later.PID, later.Start = process.PID+1, 1
	record(events.Event{Kind: events.SessionOpen}, later, events.TLS{Version: "1.3"}, false)
	expect("another of the same program does not count where its own is known", unknown, true)

	showed := handshake{failed: "the client showed a certificate of its own", shown: true}
	passed := handshake{passed: true}
	if showed.verdict(trusts) != clientCert || !strings.Contains(showed.String(), "showed a certificate") || passed.verdict(refuses) != refuses || !strings.Contains(passed.String(), "undecoded") {
		t.Errorf("%s: %s, %s: %s", showed.String(), showed.verdict(trusts), passed.String(), passed.verdict(refuses))
	}
	h2 := handshake{failed: "remote error: tls: bad certificate"}
	if h2.verdict(trusts) != pins || h2.verdict(unknown) != refuses {
		t.Error("a client that has the authority among its roots, and ends the handshake, has pinned another")
	}
}
