package privsep_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
)

// shedRole sheds, and says what all of its threads have left.
func shedRole() error {
	if err := privsep.Shed(); err != nil {
		return err
	}
	var out struct {
		Threads  []map[string]string
		Dumpable int
		Args     []string
	}
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		fields := map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(line, ":")
			fields[k] = strings.TrimSpace(v)
		}
		out.Threads = append(out.Threads, fields)
	}
	out.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	out.Args = os.Args[1:]
	return json.NewEncoder(os.Stdout).Encode(out)
}

// names of the loader's capabilities as setpriv(1) writes a bounding set.
func boundingSet(without string) string {
	set := "-all"
	for _, c := range privsep.LoaderCapabilities {
		if c.Name != without {
			set += ",+" + strings.ToLower(strings.TrimPrefix(c.Name, "CAP_"))
		}
	}
	return set
}

func shed(t *testing.T, wrap ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{}, wrap...), self, "one", "two words")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"=shed")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestShed(t *testing.T) {
	// As root with everything, and with exactly what is kept.
	for name, wrap := range map[string][]string{
		"root":    nil,
		"exactly": {"setpriv", "--bounding-set", boundingSet(""), "--no-new-privs"},
		"ambient": {"setpriv", "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"},
	} {
		text, err := shed(t, wrap...)
		var got struct {
			Threads  []map[string]string
			Dumpable int
			Args     []string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%s: %v: %s", name, err, text)
		}
		if err != nil || got.Dumpable != 0 || len(got.Threads) < 2 || strings.Join(got.Args, "|") != "one|two words" {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
		// Bits 0, 1, 3, 5 to 8, 12, 19, 21 and 39 (capability.h).
		const keep, zero = "00000080002811eb", "0000000000000000"
		for _, th := range got.Threads {
			for field, want := range map[string]string{
				"CapBnd": keep, "CapPrm": keep, "CapEff": keep, "CapInh": zero, "CapAmb": zero, "NoNewPrivs": "1", "Uid": "0\t0\t0\t0",
			} {
				if th[field] != want {
					t.Errorf("%s: %s is %s, want %s", name, field, th[field], want)
				}
			}
		}
	}
}

func TestShedNamesWhatIsMissing(t *testing.T) {
	for _, c := range privsep.LoaderCapabilities {
		text, err := shed(t, "setpriv", "--bounding-set", boundingSet(c.Name), "--no-new-privs")
		if err == nil || !strings.Contains(text, fmt.Sprintf("%s (for %s)", c.Name, c.For)) || strings.Count(text, "CAP_") != 1 {
			t.Errorf("without %s: %v, %s", c.Name, err, text)
		}
	}
	text, err := shed(t, "setpriv", "--reuid", "65534", "--bounding-set", "-all")
	if err == nil || strings.Count(text, "CAP_") != len(privsep.LoaderCapabilities) {
		t.Errorf("as nobody: %v, %s", err, text)
	}
}
