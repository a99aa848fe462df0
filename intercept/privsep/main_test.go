package privsep_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/cgroup"
	"sallyport.dev/sallyport/intercept/privsep"
)

// The test binary plays the other processes too: PRIVSEP_ROLE says which.
const roleEnv = "PRIVSEP_ROLE"

func init() {
	if os.Getenv(roleEnv) != "" {
		runtime.LockOSThread() // chroot and unshare must be the main thread's
	}
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := roles[role](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need root: run `make test`")
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

var roles = map[string]func() error{
	"agent":  agentRole,
	"jail":   jailRole,
	"daemon": daemonRole,
	"liar":   liarRole,
	"enter":  enterRole,
	"loader": loaderRole,
	"squat":  squatRole,
	"caller": callerRole,
	"shed":   shedRole,
}

func asNobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// agentRole lives until its input ends, and execs /bin/cat on "exec".
func agentRole() error {
	fmt.Println("ready")
	sc := bufio.NewScanner(os.Stdin)
	for sc.Scan() {
		switch word, arg, _ := strings.Cut(sc.Text(), " "); word {
		case "exec":
			return syscall.Exec(arg, []string{arg}, nil)
		case "setuid":
			n, _ := strconv.Atoi(arg)
			if err := syscall.Setresuid(n, n, n); err != nil {
				return err
			}
			fmt.Println("done")
		}
	}
	return sc.Err()
}

// jailRole goes into a mount namespace and root of its own.
func jailRole() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	dir := os.Getenv("PRIVSEP_DIR")
	// A file system that is seen in this namespace only.
	if err := unix.Mount("none", filepath.Join(dir, "var"), "tmpfs", 0, ""); err != nil {
		return err
	}
	for path, text := range map[string]string{"var/real": "inner", "var/other": "inner-other"} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.Symlink("/var/real", filepath.Join(dir, "var/link")); err != nil {
		return err
	}
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return agentRole()
}

// report is what the daemon's role says of itself.
type report struct {
	Status   map[string]string
	Secret   string // error of opening root's file
	Files    []string
	Err      string
	Dumpable int
	Core     uint64
	Proof    intercept.Proof
	Env      []string
	Session  bool
}

func daemonRole() error {
	var r report
	fail := func(err error) error {
		r.Err = err.Error()
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	if err := privsep.Confine(); err != nil {
		return fail(err)
	}
	c, err := privsep.Dial()
	if err != nil {
		return fail(err)
	}
	files, err := privsep.Inherited(2)
	if err != nil {
		return fail(err)
	}
	b, _ := io.ReadAll(files[0])
	r.Files = append(r.Files, string(b))
	_, err = os.ReadFile(os.Getenv("PRIVSEP_SECRET"))
	r.Secret = fmt.Sprint(err)
	r.Status = map[string]string{}
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		k, v, _ := strings.Cut(line, ":")
		r.Status[k] = strings.TrimSpace(v)
	}
	r.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	var lim unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_CORE, &lim)
	r.Core = lim.Max
	r.Env = os.Environ()
	sid, _ := unix.Getsid(0)
	r.Session = sid == os.Getpid()
	conn, err := net.FileConn(files[1])
	if err != nil {
		return fail(err)
	}
	if r.Proof, err = c.Prove(context.Background(), &intercept.Peer{Socket: conn.(*net.UnixConn)}); err != nil {
		return fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	if os.Getenv("PRIVSEP_STAY") != "" {
		select {}
	}
	return nil
}

// liarRole is a daemon that was taken over: it sends what it likes.
func liarRole() error {
	if err := privsep.Confine(); err != nil {
		return err
	}
	b, _ := strconv.Unquote(os.Getenv("PRIVSEP_BYTES"))
	if err := unix.Send(3, []byte(b), 0); err != nil {
		return err
	}
	buf := make([]byte, 100)
	n, _, err := unix.Recvfrom(3, buf, 0)
	if n > 0 {
		fmt.Println("answered")
	}
	if b != "" && err == nil {
		time.Sleep(time.Minute) // to be killed
	}
	return err
}

func enterRole() error {
	if uid, _ := strconv.Atoi(os.Getenv("PRIVSEP_AS")); uid != 0 {
		if err := syscall.Setresuid(uid, uid, uid); err != nil {
			return err
		}
	}
	_, err := privsep.Enter(context.Background(), os.Getenv("PRIVSEP_SOCKET"), privsep.Entry{
		Name: os.Getenv("PRIVSEP_NAME"), TokenFile: os.Getenv("PRIVSEP_TOKEN"), PersonFile: os.Getenv("PRIVSEP_PERSON"),
	})
	if err != nil {
		return err
	}
	return privsep.Exec(privsep.User{UID: 65534, GID: 65533, Groups: []uint32{65532}}, "/bin/sh",
		[]string{"sh", "-c", "cat /proc/self/cgroup /proc/self/status; echo ready; read x; exit 7"}, nil)
}

func squatRole() error {
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: os.Getenv("PRIVSEP_SOCKET"), Net: "unixpacket"})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = ln.Accept()
	_, _ = io.ReadAll(os.Stdin)
	return err
}

// actor is a process that plays a role.
type actor struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *bytes.Buffer
}

func play(t *testing.T, role string, attr *syscall.SysProcAttr, env ...string) *actor {
	t.Helper()
	a := &actor{Cmd: exec.Command("/proc/self/exe"), err: &bytes.Buffer{}}
	a.Env = append(env, roleEnv+"="+role)
	a.SysProcAttr = attr
	a.Stderr = a.err
	a.in, _ = a.StdinPipe()
	out, _ := a.StdoutPipe()
	a.out = bufio.NewReader(out)
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.in.Close()
		_ = a.Process.Kill()
		_ = a.Wait()
	})
	return a
}

// until reads the actor's output up to a line.
func (a *actor) until(t *testing.T, line string) string {
	t.Helper()
	var all strings.Builder
	for {
		s, err := a.out.ReadString('\n')
		if err != nil {
			_ = a.Wait() // until all it said is there
			t.Fatalf("actor ended before %q: %v: %s%s", line, err, all.String(), a.err)
		}
		if strings.TrimSpace(s) == line {
			return all.String()
		}
		all.WriteString(s)
	}
}

func agent(t *testing.T, uid uint32) *actor {
	t.Helper()
	a := play(t, "agent", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: 65534}})
	a.until(t, "ready")
	return a
}

func cgroupRoot(t testing.TB) string {
	t.Helper()
	root, err := cgroup.Root(cgroup.Mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// testCgroup makes a cgroup for the test.
func testCgroup(t *testing.T) (path string) {
	t.Helper()
	path = fmt.Sprintf("/sallyport.test-%d-%d", os.Getpid(), time.Now().UnixNano())
	dir := cgroupRoot(t) + path
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 3000 {
			subs, _ := filepath.Glob(dir + "/*/")
			for _, s := range append(subs, dir) {
				_ = unix.Rmdir(s)
			}
			if _, err := os.Stat(dir); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left behind", dir)
	})
	return path
}

// peerOf is the record that the kernel makes when the process connects.
func peerOf(t testing.TB, pid int) intercept.Peer {
	t.Helper()
	p := intercept.Peer{TGID: uint32(pid), PID: uint32(pid)}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	var fsys unix.Statfs_t
	if unix.Fstatfs(fd, &fsys) == nil && fsys.Type == unix.PID_FS_MAGIC && unix.Fstat(fd, &st) == nil {
		p.PidInode = st.Ino
	}
	dir := fmt.Sprintf("/proc/%d/", pid)
	b, err := os.ReadFile(dir + "stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	ticks, _ := strconv.ParseUint(fields[19], 10, 64)
	p.Start = ticks*10_000_000 + 1234
	b, _ = os.ReadFile(dir + "cgroup")
	_, path, _ := strings.Cut(string(b), "0::")
	if err := unix.Stat(cgroupRoot(t)+strings.TrimSpace(path), &st); err != nil {
		t.Fatal(err)
	}
	p.CgroupID = st.Ino
	if err := unix.Stat(dir+"exe", &st); err != nil {
		t.Fatal(err)
	}
	p.ExeDev, p.ExeInode = st.Dev, st.Ino
	b, _ = os.ReadFile(dir + "status")
	_, ids, _ := strings.Cut(string(b), "Uid:")
	uid, _ := strconv.Atoi(strings.Fields(ids)[0])
	p.UID = uint32(uid)
	return p
}

func write(t *testing.T, path, text string, uid int, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, uid, -1); err != nil {
		t.Fatal(err)
	}
	return path
}

func prover(t *testing.T, guarded string, ws ...privsep.Workload) *privsep.Prover {
	t.Helper()
	p, err := privsep.NewProver(cgroupRoot(t), guarded, ws)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func refused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("want a refusal with %q, got %v", why, err)
	}
}

func ptr[T any](v T) *T { return &v }
