package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport.dev/sallyport/cmd/internal/stand"
)

// Limits go on where a kill -9 has ended what counted them, and what can't be read
// gives nobody anything.
func TestLimitsAreKept(t *testing.T) {
	server := startPostgres(t)
	d := newDeveloper(t, server)
	d.write("policy.yaml", `rules:
  - {name: few, effect: allow, identity: "*", resource: clinic, commands: [read], relations: "*", limits: {hour: {rows: 5}}}
`)
	b, err := os.ReadFile(filepath.Join(d.dir, "ci.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d.write("ci.yaml", strings.Replace(string(b), "catalog: {user: sallyport_catalog}", "catalog: {user: postgres}", 1))
	serve := func(then func(ask func(string) string)) *exec.Cmd {
		t.Helper()
		cmd := d.command("exec sallyport proxy -c ci.yaml --listen 127.0.0.1:0 --issue")
		stdout, err := cmd.StdoutPipe()
		if err == nil {
			err = stand.Launch(cmd)
		}
		if err != nil {
			t.Fatal(err)
		}
		ready, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(ready, "ready ")))
		then(func(sql string) string {
			out, _ := exec.Command("psql", "-X", "-q", "-A", "-t", "-w", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-c", sql).CombinedOutput()
			return string(out)
		})
		return cmd
	}
	const four = "SELECT g FROM generate_series(1, 4) g"
	file := filepath.Join(d.dir, ".sallyport/limits.json")
	cmd := serve(func(ask func(string) string) {
		if out := ask(four); !strings.HasSuffix(out, "1\n2\n3\n4\n") {
			t.Errorf("%s", out)
		}
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if b, _ := os.ReadFile(file); strings.Contains(string(b), `"rows":4`) {
				break
			}
			if time.Now().After(end) {
				t.Fatal("nothing is written")
			}
		}
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	cmd = serve(func(ask func(string) string) {
		if out := ask(four); !strings.Contains(out, "ERROR:") || !strings.Contains(out, "5 rows an hour") {
			t.Errorf("after kill -9: %s", out)
		}
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"rows":1`) && !strings.Contains(string(b), `"rows":5`) {
		t.Errorf("at the end: %s, %v", b, err)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}
	if err := os.WriteFile(file, []byte("{\"version\":1,"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = serve(func(ask func(string) string) {
		if out := ask(four); !strings.Contains(out, "ERROR:") || strings.Contains(out, "1\n2\n") {
			t.Errorf("with a file that can't be read: %s", out)
		}
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	alarm := false
	for _, e := range journalOf(t, filepath.Join(d.dir, ".sallyport/journal")) {
		alarm = alarm || strings.Contains(string(e), "limits: what was counted for limits before can't be read")
	}
	if !alarm {
		t.Error("no alarm")
	}
}
