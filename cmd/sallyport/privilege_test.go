package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/intercept/privsep"
)

// threads returns the /proc/PID/status of each thread, by field.
func threads(t *testing.T, pid int) (all []map[string]string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("process %d: %v", pid, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // ended
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(line, ":")
			fields[k] = strings.TrimSpace(v)
		}
		all = append(all, fields)
	}
	return all
}

// Every thread of loader and daemon has what the manual says and no more, also
// where the service manager gives the loader nothing else to begin with.
func TestLeastPrivilege(t *testing.T) {
	const (
		zero = "0000000000000000"
		few  = "00000080002811eb" // those of privsep.LoaderCapabilities
	)
	set := "-all"
	for _, c := range privsep.LoaderCapabilities {
		set += ",+" + strings.ToLower(strings.TrimPrefix(c.Name, "CAP_"))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, wrap := range map[string][]string{
		"as root":          {self},
		"with these alone": {"setpriv", "--bounding-set", set, "--no-new-privs", self},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, startPostgres(t))
			h.log = &syncBuffer{}
			h.loader = exec.Command(wrap[0], append(wrap[1:], "run", "-c", h.config)...)
			h.loader.Env = append(os.Environ(), "SALLYPORT_TEST=1", "GORACE=atexit_sleep_ms=0", "NOTIFY_SOCKET="+h.ready.LocalAddr().String())
			h.loader.Stderr = h.log
			h.loader.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			if err := stand.Launch(h.loader); err != nil {
				t.Fatal(err)
			}
			h.notified("READY=1")
			for who, w := range map[string]struct {
				pid  int
				want map[string]string
			}{
				"loader": {h.loader.Process.Pid, map[string]string{
					"CapBnd": few, "CapPrm": few, "CapEff": few, "CapInh": zero, "CapAmb": zero, "NoNewPrivs": "1",
				}},
				"daemon": {h.daemon(), map[string]string{
					"CapBnd": zero, "CapPrm": zero, "CapEff": zero, "CapInh": zero, "CapAmb": zero, "NoNewPrivs": "1", "Seccomp": "2", "Groups": "",
					"Uid": strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d\t", daemonUID), 4)),
				}},
			} {
				for _, th := range threads(t, w.pid) {
					for field, want := range w.want {
						// The thread that started the daemon has no bounding set left.
						if th[field] != want && (field != "CapBnd" || th[field] != zero) {
							t.Errorf("%s: %s is %q, want %q", who, field, th[field], want)
						}
					}
				}
			}
			// A token file that only its user can read.
			token := h.token("agent-a")
			if err := os.Chown(token, agentUID, agentUID); err != nil {
				t.Fatal(err)
			}
			if out, err := h.psqlWith(token, "-c", "select 42"); err != nil || out != "42\n" {
				t.Errorf("%q, %v", out, err)
			}
			h.write(h.policy, strings.Replace(allowAll, "effect: allow", "effect: block", 1))
			h.reload("msg=reloaded process=loader")
			if out, err := h.psqlWith(token, "-c", "select 42"); err == nil {
				t.Errorf("after the reload: %q", out)
			}
			h.stop()
		})
	}
}

// The manual lists what the loader keeps.
func TestDocsListCapabilities(t *testing.T) {
	code := map[string]bool{}
	for _, c := range privsep.LoaderCapabilities {
		code[c.Name] = true
	}
	doc := map[string]bool{}
	for line := range strings.Lines(section(t, "### Capabilities of the loader")) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); ok && strings.HasPrefix(name, "CAP_") {
			doc[name] = true
		}
	}
	same(t, "capability", doc, code)
}

// The unit bounds the loader to what it keeps, so that nothing is given up for
// the first time by a process that has it.
func TestUnitBoundsTheLoader(t *testing.T) {
	text, err := os.ReadFile("../../packaging/systemd/sallyport.service")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(text), "\nCapabilityBoundingSet=")
	line, _, _ = strings.Cut(line, "\n")
	unit, code := map[string]bool{}, map[string]bool{}
	for _, name := range strings.Fields(line) {
		unit[name] = true
	}
	for _, c := range privsep.LoaderCapabilities {
		code[c.Name] = true
	}
	if !maps.Equal(unit, code) {
		t.Errorf("the unit has %v, the loader keeps %v", unit, code)
	}
}
