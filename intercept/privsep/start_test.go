package privsep_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept/privsep"
)

func startDaemon(t *testing.T, o privsep.Options) *privsep.Child {
	t.Helper()
	o.Path, o.Args, o.UID, o.GID = "/proc/self/exe", []string{"daemon"}, nobody, nobody
	o.Stderr = os.Stderr
	if o.Record == nil {
		o.Record = new(privsep.Sockets).Record
	}
	c, err := privsep.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Signal(os.Kill)
		_ = c.Wait()
	})
	return c
}

func pipeWith(t *testing.T, text string) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, text)
	w.Close()
	return r
}

func TestDaemonIsConfinedAndProves(t *testing.T) {
	dir := t.TempDir()
	secret := write(t, dir+"/secret", "root's", 0, 0o600)
	a := agent(t, nobody)
	var sockets privsep.Sockets
	conn, err := sockets.Connect(t, peerOf(t, a.Process.Pid)).File()
	if err != nil {
		t.Fatal(err)
	}
	cg := testCgroup(t)
	cgfd, err := os.Open(cgroupRoot(t) + cg)
	if err != nil {
		t.Fatal(err)
	}
	defer cgfd.Close()
	// The loader's own groups must not reach the daemon.
	if err := unix.Setgroups([]int{0, 4, 27}); err != nil {
		t.Fatal(err)
	}
	defer unix.Setgroups([]int{0})
	var out bytes.Buffer
	file := pipeWith(t, "handed over")
	c := startDaemon(t, privsep.Options{
		Env:    []string{roleEnv + "=daemon", "PRIVSEP_SECRET=" + secret},
		Files:  []*os.File{file, conn},
		Cgroup: cgfd, Stdout: &out, Record: sockets.Record,
		Prover: prover(t, "", privsep.Workload{Name: "a", Match: privsep.Match{UID: ptr(uint32(nobody))}, TokenFile: write(t, dir+"/t", strings.Repeat("T", 64<<10), 0, 0o600)}),
	})
	if _, err := file.Read(nil); err == nil {
		t.Error("the loader kept its copy of a file")
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err, out.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Err != "" || len(r.Proof.Token) != 64<<10 || r.Proof.Workload != "a" {
		t.Fatalf("%s %+v", r.Err, r.Proof.Workload)
	}
	zero := "0000000000000000"
	for k, want := range map[string]string{
		"CapInh": zero, "CapPrm": zero, "CapEff": zero, "CapBnd": zero, "CapAmb": zero,
		"NoNewPrivs": "1", "Groups": "", "Uid": "65534\t65534\t65534\t65534", "Gid": "65534\t65534\t65534\t65534",
	} {
		if r.Status[k] != want {
			t.Errorf("%s is %q, want %q", k, r.Status[k], want)
		}
	}
	if !strings.Contains(r.Secret, "permission denied") || r.Files[0] != "handed over" || r.Dumpable != 0 || r.Core != 0 || len(r.Env) != 2 || !r.Session {
		t.Errorf("%+v", r)
	}
}

func TestConfineRefusesPrivilege(t *testing.T) {
	// As root, and as an unprivileged user whom no loader has started.
	for name, a := range map[string]*actor{"root": play(t, "daemon", nil), "plain user": play(t, "daemon", asNobody())} {
		b, _ := io.ReadAll(a.out)
		var r report
		if err := json.Unmarshal(b, &r); err != nil || !strings.Contains(r.Err, "not confined") {
			t.Errorf("%s: %s %v", name, b, err)
		}
	}
}

func TestStartRefusesRoot(t *testing.T) {
	for _, o := range []privsep.Options{{UID: 0, GID: 1}, {UID: 1, GID: 0}, {}} {
		o.Path, o.Prover, o.Record = "/bin/true", prover(t, ""), new(privsep.Sockets).Record
		if _, err := privsep.Start(o); err == nil {
			t.Fatal("started as root")
		}
	}
	if _, err := privsep.Start(privsep.Options{Path: "/nonexistent", Args: []string{"x"}, UID: 1, GID: 1, Prover: prover(t, ""), Record: new(privsep.Sockets).Record}); err == nil {
		t.Fatal("started nothing")
	}
}

// A dead daemon's listener refuses.
func TestDeadDaemonRefuses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	c := startDaemon(t, privsep.Options{Env: []string{roleEnv + "=liar", "PRIVSEP_BYTES=" + strconv.Quote(string(make([]byte, 1)))}, Files: []*os.File{f}, Prover: prover(t, "")})
	_ = c.Wait()
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Fatal("somebody still listens")
	}
}

func TestLoaderEndsALiar(t *testing.T) {
	good := make([]byte, 72) // who is it?
	copy(good, "SPQ2\x02")
	for name, b := range map[string][]byte{
		"empty (hangs up)": {}, "short": good[:71], "long": append(good[:72:72], 0), "huge": append(good[:72:72], make([]byte, 10_000)...),
		"a proof without its socket": []byte("SPQ2\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), "magic": append([]byte("XXXX"), good[4:]...), "question": append([]byte("SPQ2\x03"), good[5:]...),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			c := startDaemon(t, privsep.Options{Stdout: &out, Env: []string{roleEnv + "=liar", "PRIVSEP_BYTES=" + strconv.Quote(string(b))}, Prover: prover(t, "")})
			select {
			case <-c.Done():
			case <-time.After(2 * time.Minute):
				t.Fatal("the loader lets it go on")
			}
			if strings.Contains(out.String(), "answered") {
				t.Fatal("the loader answered")
			}
			if len(b) > 0 && !strings.Contains(fmt.Sprint(c.Wait()), "malformed") {
				t.Fatal(c.Wait())
			}
		})
	}
	t.Run("well formed", func(t *testing.T) {
		var out bytes.Buffer
		c := startDaemon(t, privsep.Options{Stdout: &out, Env: []string{roleEnv + "=liar", "PRIVSEP_BYTES=" + strconv.Quote(string(good))}, Prover: prover(t, "")})
		for range 1200 {
			time.Sleep(50 * time.Millisecond)
			select {
			case <-c.Done():
				t.Fatal("ended", c.Wait())
			default:
			}
			if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.PID())); bytes.Contains(b, []byte(" S ")) {
				break
			}
		}
		_ = c.Signal(os.Kill)
		if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatal(err)
		}
	})
}

// The daemon does not outlive its loader.
func TestDaemonDiesWithItsLoader(t *testing.T) {
	l := play(t, "loader", nil)
	line, err := l.out.ReadString('\n')
	if err != nil {
		t.Fatal(err, l.err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = l.Process.Kill()
	n, err := 0, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	}
	if err != nil || n != 1 {
		_ = unix.Kill(pid, unix.SIGKILL)
		t.Fatal("the daemon lives on", err)
	}
}

// loaderRole starts a daemon that stays, and says its pid.
func loaderRole() error {
	c, err := privsep.Start(privsep.Options{Path: "/bin/sleep", Args: []string{"sleep", "60"}, UID: nobody, GID: nobody, Prover: new(privsep.Prover), Record: new(privsep.Sockets).Record})
	if err != nil {
		return err
	}
	fmt.Println(c.PID())
	return c.Wait()
}
