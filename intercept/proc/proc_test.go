package proc_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport.dev/sallyport/intercept/proc"
)

const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"

func TestStat(t *testing.T) {
	for stat, want := range map[string]string{
		"7 (sh)" + rest:         "4711 S <nil>",
		"7 (a) Z 1 (b))" + rest: "4711 S <nil>", // the name ends at the last parenthesis
		"7 (\n)" + rest:         "4711 S <nil>",
		"":                      "0 \x00 stat: cut short",
		"7 (sh)":                "0 \x00 stat: cut short",
		"7 (sh" + rest:          "0 \x00 stat: cut short",
		"7 (sh) S 1 2 3":        "0 \x00 stat: cut short",
	} {
		start, err := proc.Start([]byte(stat))
		state, serr := proc.State([]byte(stat))
		if got := fmt.Sprintf("%d %c %v", start, state, err); !strings.HasPrefix(got, want) || err == nil && serr != nil {
			t.Errorf("%q: %q, %v", stat, got, serr)
		}
	}
}

func TestStatus(t *testing.T) {
	for status, want := range map[string]string{
		"Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n":   "{1 2} true",
		"Name:\tUid: 9 9 9 9\nUid:\t4294967295\t0\t0\t0\n": "{4294967295 0} true",
		"Name:\tx\n":                  "{0 0} false",
		"Uid:\t1\t2\n":                "{0 0} false",
		"Uid:\t1\t4294967296\t0\t0\n": "{0 0} false",
		"Uid:\t-1\t0\t0\t0\n":         "{0 0} false",
	} {
		u, err := proc.Users([]byte(status))
		if got := fmt.Sprint(u, err == nil); got != want {
			t.Errorf("%q: %s, %v", status, got, err)
		}
	}
}

func TestCgroup(t *testing.T) {
	for text, want := range map[string]string{
		"0::/a\n": "/a", "12:memory:/x\n0::/a b\n": "/a b", "1:name=0::/z:/y\n": "", "0::/": "/", "": "",
		"0::/a (deleted)\n": "/a (deleted)",
	} {
		if got := proc.Cgroup([]byte(text)); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// What the kernel writes of a live process is understood.
func TestOfAProcess(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	read := func(name string) []byte {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	start, err := proc.Start(read("stat"))
	u, uerr := proc.Users(read("status"))
	if err != nil || start == 0 || uerr != nil || u.Real != uint32(os.Getuid()) || u.Effective != u.Real {
		t.Error(start, err, u, uerr)
	}
}
