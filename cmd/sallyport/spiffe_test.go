package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/identity/spiretest"
	"sallyport.dev/sallyport/intercept/redirect"
)

// inGuarded is a command of a user's in a guarded cgroup, without sallyport
// exec: what an agent is that knows of nothing.
func inGuarded(t *testing.T, uid uint32, args ...string) *exec.Cmd {
	t.Helper()
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "sallyport.guarded", "unaware")
	if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cgroup.Remove(path, 5*time.Second) })
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "PGCONNECT_TIMEOUT=20", "PGUSER=postgres", "PGDATABASE=postgres")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{Uid: uid, Gid: uid},
	}
	return cmd
}

// An unmodified process that has no token is who SPIRE says; what SPIRE does not
// know gets in nowhere; and when the entry is deleted its session ends.
func TestSPIFFE(t *testing.T) {
	s := spiretest.Start(t, spiretest.Options{Group: daemonUID})
	h := newHost(t, startPostgres(t))
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	h.write(h.config, strings.NewReplacer(
		"\nidentity:\n", fmt.Sprintf("\nidentity:\n  recheck: 1s\n  spiffe: {agent: \"unix://%s\", admin: \"unix://%s\", broker: \"unix://%s\"}\n", s.Workload, s.Admin, s.Broker),
		"subjects: [agent-a]", "spiffe: spiffe://one.test/agent",
	).Replace(string(b)))
	h.write(h.policy, `rules:
  - {name: attested, effect: allow, identity: "*", resource: "*", commands: "*", relations: "*", condition: "identity.proof == 'spiffe' && identity.workload == 'agent-a'"}
`)
	s.Register(spiretest.Entry{Path: "/sallyport", Selectors: []string{fmt.Sprint("unix:uid:", daemonUID)}})
	h.serve()
	psql := func(uid uint32, program string, sql ...string) (string, error) {
		args := []string{program, "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server)}
		for _, q := range sql {
			args = append(args, "-c", q)
		}
		out, err := inGuarded(t, uid, args...).CombinedOutput()
		return string(out), err
	}
	const program = "/usr/lib/postgresql/15/bin/psql"
	if out, err := psql(agentUID, program, "SELECT 'in'"); err == nil || !strings.Contains(out, "no SPIFFE identity") {
		t.Fatalf("not registered: %q, %v", out, err)
	}
	entry := s.Register(spiretest.Entry{Path: "/agent", Selectors: []string{fmt.Sprint("unix:uid:", agentUID), "unix:path:" + program}})
	within(t, "SPIRE tells the agent", func() bool { out, _ := psql(agentUID, program, "SELECT 'in'"); return out == "in\n" })
	// The same user's other program is somebody else, and so is another user.
	copied := filepath.Join(h.dir, "psql")
	if out, err := exec.Command("cp", program, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := psql(agentUID, copied, "SELECT 'in'"); err == nil {
		t.Errorf("another program: %q", out)
	}
	if out, err := psql(agentUID+1, program, "SELECT 'in'"); err == nil {
		t.Errorf("another user: %q", out)
	}

	// A running session, at rest and with a statement in flight.
	open := inGuarded(t, agentUID, program, "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port(h.server), "-c", "SELECT 'begun'", "-c", "SELECT pg_sleep(120)")
	out, err := open.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs syncBuffer
	open.Stderr = &errs
	if err := stand.Launch(open); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "begun\n" {
		t.Fatalf("%q, %v, %s", line, err, errs.String())
	}
	began := time.Now()
	s.Delete(entry)
	if err := open.Wait(); err == nil {
		t.Error("the session goes on without an identity")
	}
	t.Logf("ended %v after the entry was deleted", time.Since(began).Round(time.Millisecond))
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("it took %v", took)
	}
	if out, err := psql(agentUID, program, "SELECT 'in'"); err == nil {
		t.Errorf("after its entry was deleted: %q", out)
	}
	// Without the agent nobody gets in, and it is back when the agent is.
	s.Register(spiretest.Entry{Path: "/agent", Selectors: []string{fmt.Sprint("unix:uid:", agentUID)}})
	within(t, "registered again", func() bool { out, _ := psql(agentUID, program, "SELECT 'in'"); return out == "in\n" })
	s.StopAgent()
	if out, err := psql(agentUID, program, "SELECT 'in'"); err == nil {
		t.Errorf("without the agent: %q", out)
	}
	s.StartAgent()
	within(t, "the agent is back", func() bool { out, _ := psql(agentUID, program, "SELECT 'in'"); return out == "in\n" })

	h.stop()
	all := h.record()
	opened := recorded(all, events.SessionOpen)
	if len(opened) == 0 || opened[0].SPIFFE != "spiffe://one.test/agent" || opened[0].Workload != "agent-a" || opened[0].Proof != intercept.ProofSPIFFE {
		t.Errorf("%+v", opened)
	}
	withdrawn := false
	for _, e := range recorded(all, events.Block) {
		b, _ := json.Marshal(e)
		withdrawn = withdrawn || has(string(b), "withdrawn")
	}
	if !withdrawn {
		t.Error("no record of why the session ended")
	}
}
