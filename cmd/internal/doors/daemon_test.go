package doors_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/redirect"
)

// flow is what the daemon tells of a connection that came out of the passage.
type flow struct {
	Token       string
	Destination netip.AddrPort
	Path        string
}

func init() {
	// daemon N: no capability, N listeners inherited. It tells of each flow what
	// the kernel's record says, and what came first.
	roles["daemon"] = func(args []string) error {
		n, _ := strconv.Atoi(args[0])
		var lns []net.Listener
		for i := range n {
			l, err := net.FileListener(os.NewFile(uintptr(3+i), "listener"))
			if err != nil {
				return err
			}
			lns = append(lns, l)
		}
		l := redirect.NewListener(lns, nil)
		fmt.Println("ready")
		for {
			f, err := l.Accept(context.Background())
			if err != nil {
				return err
			}
			go tellOf(f)
		}
	}
	// relay AT TO: carries connections, as poolers and port forwarders do.
	roles["relay"] = func(args []string) error {
		l, err := net.Listen("tcp", args[0])
		if err != nil {
			return err
		}
		fmt.Println("ready")
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", args[1])
				if err != nil {
					return
				}
				defer s.Close()
				_, _ = io.Copy(s, c)
			}()
		}
	}
}

func tellOf(f *intercept.Flow) {
	defer f.Conn.Close()
	_ = f.Conn.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(f.Conn).ReadString('\n')
	if line == "" && err != nil {
		return
	}
	_ = answer(flow{Token: line, Destination: f.Destination, Path: f.Path})
}

// daemon starts one behind the guard, exempt as a loader would exempt it.
func (w *world) daemon(g *redirect.Guard) (stop func(), err error) {
	var files []*os.File
	for _, ns := range []*os.File{nil, w.served} {
		lns, err := g.ListenIn(ns)
		if err != nil {
			return nil, err
		}
		defer lns.Close()
		more, err := lns.Files()
		files = append(files, more...)
		if err != nil {
			return nil, err
		}
	}
	// By this name for a user who may not enter the folder that it is in.
	cmd := exec.Command("/proc/self/exe", strconv.Itoa(len(files)))
	cmd.ExtraFiles = files
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	path, id := g.DaemonCgroup()
	dir, err := os.Open(filepath.Join(w.root, path))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	cmd.Env = append(os.Environ(), "DOORS_ROLE=daemon", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody},
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan struct{})
	stop = func() { _ = cmd.Process.Kill(); <-done; _ = cmd.Wait() }
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	go func() { w.flows(r); close(done) }()
	if line != "ready\n" {
		stop()
		return nil, fmt.Errorf("daemon: %q, %w", line, err)
	}
	born, err := redirect.StartBoottime(uint32(cmd.Process.Pid))
	if err := errors.Join(err, g.Exempt(uint32(cmd.Process.Pid), born, id)); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// flows notes what the daemon tells, until it ends.
func (w *world) flows(r io.Reader) {
	for dec := json.NewDecoder(r); ; {
		var f flow
		if dec.Decode(&f) != nil {
			return
		}
		place := atPassage
		if !w.protects(f) {
			place = fmt.Sprintf("the passage, with a record of %s %s", f.Destination, f.Path)
		}
		w.ledger.note(f.Token, place)
	}
}
