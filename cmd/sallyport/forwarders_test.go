package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept/redirect"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// The test binary is a pooler too, of the simplest kind.
func init() {
	to := os.Getenv("SALLYPORT_TEST_FORWARD")
	if to == "" {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }()
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			defer c.Close()
			s, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer s.Close()
			go func() { _, _ = io.Copy(c, s); c.Close() }()
			_, _ = io.Copy(s, c)
		}()
	}
}

// forwarder starts one in a cgroup, and returns what it listens at.
func forwarder(t *testing.T, cgroup, to string) string {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Join(root, cgroup))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST_FORWARD="+to)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stand.Launch(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// A pooler beside a protected server is a door: open to everybody where it is
// exempt and what it listens at is not protected; shut where it is covered and
// nobody; and the passage's where both are ruled.
func TestForwarderIsADoor(t *testing.T) {
	server := startPostgres(t)
	h := newHost(t, server)
	exempt, covered := redirecttest.Cgroup(t), redirecttest.Cgroup(t)
	pooler, other := forwarder(t, exempt, server), forwarder(t, covered, server)
	write := func(ruling, addresses string) {
		h.configure()
		b, err := os.ReadFile(h.config)
		if err != nil {
			t.Fatal(err)
		}
		h.write(h.config, strings.NewReplacer(
			"interception: {mode: cgroup, cgroups: [/sallyport.guarded], ", "interception: {mode: host, "+ruling,
			`addresses: ["`+server+`"]`, `addresses: ["`+server+`"`+addresses+`]`,
		).Replace(string(b)))
	}
	ask := func(at string, token bool) (string, error) {
		addr, port, _ := net.SplitHostPort(at)
		args := []string{"-X", "-A", "-t", "-w", "-h", addr, "-p", port, "-U", "postgres", "-c", "select 'through'"}
		if token {
			out, err := h.agent(h.token("agent-a"), append([]string{"psql"}, args...)...).CombinedOutput()
			return string(out), err
		}
		out, err := exec.Command("psql", append(args, "postgres")...).CombinedOutput()
		return string(out), err
	}
	write("exempt: ["+exempt+"], ", "")
	h.serve()
	if out, err := ask(server, false); err == nil {
		t.Fatalf("the server itself: %q", out)
	}
	if out, err := ask(pooler, false); err != nil || out != "through\n" {
		t.Errorf("this is the door, and it is shut: %q, %v", out, err)
	}
	if out, err := ask(other, false); err == nil {
		t.Errorf("through a pooler that is covered, and nobody: %q", out)
	}

	write("forwarders: [{name: pooler, cgroup: "+exempt+`, do: exempt, listens: ["`+pooler+`"]}], `, `, "`+pooler+`"`)
	h.signal(syscall.SIGHUP)
	within(t, "reloaded", func() bool { return h.metric(`sallyport_reloads_total{result="ok"}`) == "1" })
	if out, err := ask(pooler, false); err == nil || !has(out, "FATAL", "sallyport: refused") {
		t.Errorf("the ruled pooler, without a token: %q, %v", out, err)
	}
	if out, err := ask(pooler, true); err != nil || out != "through\n" {
		t.Errorf("the ruled pooler, with a token: %q, %v", out, err)
	}
	h.stop()
	told := 0
	for _, v := range recorded(h.record(), events.Statement) {
		if v.Workload == "agent-a" && v.Destination.String() == pooler {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d statements through the pooler are on the record", told)
	}
}
