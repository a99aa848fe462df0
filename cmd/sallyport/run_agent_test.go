package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/redirect/redirecttest"
)

// agent is a command of the agent's, in a guarded cgroup.
func (h *host) agent(token string, args ...string) *exec.Cmd {
	args = append([]string{"-c", h.config, "exec", "--token-file", token, "--user", strconv.Itoa(agentUID) + ":" + strconv.Itoa(agentUID), "--"}, args...)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_TEST=1", "PGCONNECT_TIMEOUT=20", "PGUSER=postgres", "PGDATABASE=postgres")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// shell is an agent's psql that reads its statements one by one.
type shell struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	errs syncBuffer
}

func (h *host) shell(token string, args ...string) *shell {
	h.t.Helper()
	s := &shell{t: h.t, cmd: h.agent(token, append([]string{"psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", port(h.server)}, args...)...)}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		h.t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	s.cmd.Stderr = &s.errs
	if err := stand.Launch(s.cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		s.in.Close()
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	return s
}

// run returns what a statement prints, and the errors so far.
func (s *shell) run(sql string) (out, errs string) {
	s.t.Helper()
	fmt.Fprintf(s.in, "%s;\n\\echo done\n", sql)
	var b strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			return b.String(), s.errs.String()
		}
		if line == "done\n" {
			return b.String(), s.settled()
		}
		b.WriteString(line)
	}
}

// settled returns the errors once no more come: they have a way of their own.
func (s *shell) settled() string {
	for before := ""; ; {
		time.Sleep(20 * time.Millisecond)
		now := s.errs.String()
		if now == before {
			return now
		}
		before = now
	}
}

func port(addr string) string {
	_, p, _ := net.SplitHostPort(addr)
	return p
}

// psql runs psql as the agent with a token of the client's.
func (h *host) psql(client string, args ...string) (string, error) {
	h.t.Helper()
	return h.psqlWith(h.token(client), args...)
}

func (h *host) psqlWith(token string, args ...string) (string, error) {
	h.t.Helper()
	addr, port, _ := net.SplitHostPort(h.server)
	out, err := h.agent(token, append([]string{"psql", "-X", "-A", "-t", "-h", addr, "-p", port}, args...)...).CombinedOutput()
	return string(out), err
}

// clusterDir holds a fresh server's data folder, made once and copied for each
// test; TestMain removes it.
var clusterDir string

var cluster = sync.OnceValue(func() (err error) {
	if clusterDir, err = os.MkdirTemp("", "sallyport-initdb"); err != nil {
		return err
	}
	if err := os.Chown(clusterDir, pgUID, pgUID); err != nil {
		return err
	}
	return asPostgres(clusterDir, "initdb", "-D", filepath.Join(clusterDir, "d"), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
})

const pgUID = 65534 // initdb wants an account that the system knows

func asPostgres(dir, name string, args ...string) error {
	c := exec.Command("/usr/lib/postgresql/15/bin/"+name, args...)
	c.Dir = dir
	c.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: pgUID, Gid: pgUID}}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}

// startPostgres starts a throwaway server and returns its address.
func startPostgres(t *testing.T) string {
	t.Helper()
	addr, _ := startPostgresWith(t, "")
	return addr
}

// startPostgresWith gives the server more options, and returns its log too.
func startPostgresWith(t *testing.T, options string) (addr, log string) {
	t.Helper()
	if err := cluster(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sallyport-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("cp", "-a", filepath.Join(clusterDir, "d"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chown(dir, pgUID, pgUID); err != nil {
		t.Fatal(err)
	}
	port, data := int(redirecttest.Port(t)), filepath.Join(dir, "d")
	log = filepath.Join(dir, "log")
	if err := asPostgres(dir, "pg_ctl", "-D", data, "-w", "-l", log, "-o",
		fmt.Sprintf("-c listen_addresses=127.0.0.1 -c port=%d -c fsync=off -k %s %s", port, dir, options), "start"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := asPostgres(dir, "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("127.0.0.1:%d", port), log
}
