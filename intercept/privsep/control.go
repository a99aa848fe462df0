package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Control serves `sallyport exec`: it puts the caller, proved by the socket
// to be root, into a new guarded cgroup that carries the caller's token file,
// and removes that cgroup when its last process has ended. Other conversations
// are the loader's.
type Control struct {
	// OnTalk is given what else root asks; set it before Serve. It owns the
	// Talk. nil refuses all.
	OnTalk func(*Talk)

	ln     *net.UnixListener
	prover *Prover

	mu sync.Mutex // held while a cgroup is made and entered, and while empty ones are removed
	wg sync.WaitGroup
}

// ListenControl opens the control socket, mode 0600, owned by the loader's
// user. The guarded cgroup of p must be there: `sallyport guard up` makes it,
// and only one that the programs know is covered.
func ListenControl(path string, p *Prover) (*Control, error) {
	if fi, err := os.Stat(p.cgroupDir(p.guarded)); err != nil || !fi.IsDir() {
		return nil, fmt.Errorf("cgroup %s is not there: run `sallyport guard up` first", p.guarded)
	}
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if c, err := net.Dial("unixpacket", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s: another sallyport already runs here: stop it first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Between the two, callers are refused by their credentials.
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &Control{ln: ln, prover: p}, nil
}

// privateDir makes the socket's folder, or checks that nobody else can put
// another socket in its place.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != uint32(os.Geteuid()) || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s: must be a folder that only root can write to: chown root and chmod 755 it, or name another in sallyport.yaml (run)", dir)
	}
	return nil
}

// Serve answers until ctx ends. Running commands stay where they are: their
// cgroups keep their token, and are adopted by the next Serve.
func (c *Control) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.ln.Close() })
	defer stop()
	// The loop below looks at ctx itself: a child may end a moment after the
	// listener that ctx's end closes.
	sweeping, cancel := context.WithCancel(ctx)
	// A token file that hangs is not waited for.
	defer waitAtMost(&c.wg, 2*patience)
	defer cancel()
	c.wg.Go(func() { c.sweepLoop(sweeping) })
	for {
		conn, err := c.ln.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("control socket: %w", err)
		}
		c.wg.Go(func() { c.serve(conn) })
	}
}

// Close stops listening; Serve returns the error of a closed listener unless
// its context has ended.
func (c *Control) Close() error { return c.ln.Close() }

// Descriptor returns a further descriptor of the socket, for AdoptControl, and
// belongs to the caller.
func (c *Control) Descriptor() (fd int, err error) {
	rc, err := c.ln.SyscallConn()
	if err == nil {
		cerr := rc.Control(func(s uintptr) { fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) })
		err = errors.Join(cerr, err)
	}
	if err != nil {
		return -1, fmt.Errorf("control socket: %w", err)
	}
	return fd, nil
}

// Leave is Close for a socket that has been handed over: it stays in its place.
func (c *Control) Leave() error {
	c.ln.SetUnlinkOnClose(false)
	return c.ln.Close()
}

// AdoptControl takes over the control socket of another Control, whose callers
// wait meanwhile. It closes fd.
func AdoptControl(fd int, path string, p *Prover) (*Control, error) {
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	u, ok := ln.(*net.UnixListener)
	if !ok || u.Addr().Network() != "unixpacket" || u.Addr().String() != path {
		ln.Close()
		return nil, fmt.Errorf("control socket: what was handed over is %s, not %s", ln.Addr(), path)
	}
	u.SetUnlinkOnClose(true)
	return &Control{ln: u, prover: p}, nil
}

// serve answers one caller.
func (c *Control) serve(conn *net.UnixConn) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	cgroup, talk, err := c.answer(conn)
	if talk != nil {
		_ = conn.SetDeadline(time.Time{})
		c.OnTalk(talk)
		return
	}
	_, _ = conn.Write(appendEntered(nil, cgroup, err))
	conn.Close()
}

// answer reads what is asked and, unless it begins a Talk, does it.
func (c *Control) answer(conn *net.UnixConn) (cgroup string, talk *Talk, err error) {
	// Read first: a socket closed with unread bytes loses its answer.
	packet, fds, err := readPacket(conn, maxTalk, 4)
	if err != nil {
		return "", nil, fmt.Errorf("read the request: %w", err)
	}
	defer func() { closeFDs(fds) }()
	who, err := callerOf(conn)
	if err != nil {
		return "", nil, err
	}
	defer unix.Close(who.pidfd)
	if isTalk(packet) && c.OnTalk != nil {
		mine := fds
		fds = nil // the Talk's
		talk, err = answerTalk(conn, who, packet, mine)
		return "", talk, err
	}
	e, err := parseEnter(packet)
	if err != nil {
		return "", nil, err
	}
	files := []string{e.tokenFile}
	if e.personFile != "" {
		files = append(files, e.personFile)
	}
	if len(fds) != len(files) {
		return "", nil, errMalformed
	}
	for i, file := range files {
		if err := checkTokenFile(file, fds[i]); err != nil {
			return "", nil, err
		}
	}
	if e.personFile != "" {
		if e.personFile, err = personOf(e.personFile, fds[1]); err != nil {
			return "", nil, err
		}
	}
	cgroup, err = c.enter(e, who)
	return cgroup, nil, err
}

// caller is the process at the other end of the control socket.
type caller struct {
	pid   int32
	pidfd int
}

func callerOf(conn *net.UnixConn) (who caller, err error) {
	cred, err := credentials(conn)
	if err != nil {
		return who, err
	}
	if cred.Uid != 0 {
		return who, fmt.Errorf("user %d may not do this: only root can put a process into a guarded cgroup (use sudo)", cred.Uid)
	}
	rc, err := conn.SyscallConn()
	if err != nil {
		return who, err
	}
	who = caller{pid: cred.Pid, pidfd: -1}
	var cerr error
	if err := rc.Control(func(fd uintptr) {
		who.pidfd, cerr = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		if errors.Is(cerr, unix.ENOPROTOOPT) {
			// Before 6.5. The caller is root and waits for the answer.
			who.pidfd, cerr = unix.PidfdOpen(int(cred.Pid), 0)
		}
	}); err != nil {
		return who, err
	}
	if cerr != nil {
		return who, fmt.Errorf("the caller cannot be proved: %w", cerr)
	}
	return who, nil
}

// credentials returns who opened the other end of a unix socket.
func credentials(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	rc, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := rc.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(cerr, err)
}

func descriptors(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var fds []int
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// checkTokenFile checks that path is, for the loader too, the file that the
// caller has opened, and one that may be read as a token. The path is what is
// kept: a rotated token is found again, and removing the file revokes it.
func checkTokenFile(path string, fd int) error {
	if err := checkTemplate(path); err != nil {
		return err
	}
	if path == "" || strings.ContainsRune(path, '{') {
		return fmt.Errorf("token file %q: give a plain absolute path", path)
	}
	loc, err := locateHost(path)
	if err != nil {
		return err
	}
	defer unix.Close(loc)
	var mine, theirs unix.Stat_t
	if err := errors.Join(unix.Fstat(loc, &mine), unix.Fstat(fd, &theirs)); err != nil {
		return fmt.Errorf("token file %s: %w", path, err)
	}
	if mine.Dev != theirs.Dev || mine.Ino != theirs.Ino {
		return fmt.Errorf("token file %s: is another file where the loader runs: give one outside of private mounts", path)
	}
	_, err = readLocated(loc, path, nil)
	return err
}
