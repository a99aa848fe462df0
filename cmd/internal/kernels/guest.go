package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Places in the virtual machine.
const (
	initPath    = "/init"
	planPath    = "/plan.json"
	resultsPort = "/dev/ttyS1" // ttyS0 is the kernel's console
)

// A plan is what the machine does, once its file systems are mounted.
type plan struct {
	Modules []string // files, in the order in which they can be loaded
	Runs    []run
}

// A run is one test binary.
type run struct {
	Name string
	Args []string // its path first
	Env  []string
}

// A report is one line that the machine writes to its second serial port. One
// of its fields is set.
type report struct {
	Kernel string `json:",omitempty"` // its release: it is up
	Run    string `json:",omitempty"` // that Line or Exit is of
	Line   string `json:",omitempty"`
	Exit   *int   `json:",omitempty"`
	Error  string `json:",omitempty"` // something that is no test went wrong
	Done   bool   `json:",omitempty"`
}

// asInit is the first process: it starts itself again for the work, buries
// the dead, and switches the machine off.
func asInit() {
	for _, m := range [][3]string{
		{"proc", "/proc", "proc"},
		{"sysfs", "/sys", "sysfs"},
		{"devtmpfs", "/dev", "devtmpfs"},
		{"tmpfs", "/tmp", "tmpfs"},
		{"tmpfs", "/run", "tmpfs"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2"},
		{"bpf", "/sys/fs/bpf", "bpf"},
		{"securityfs", "/sys/kernel/security", "securityfs"},
	} {
		if err := unix.Mount(m[0], m[1], m[2], 0, ""); err != nil {
			fmt.Println("mount", m[1], err)
		}
	}
	_ = os.Chmod("/tmp", 0o1777)
	cmd := exec.Command(initPath, "work")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
	} else {
		for pid := 0; pid != cmd.Process.Pid; {
			pid, _ = unix.Wait4(-1, nil, 0, nil)
		}
	}
	unix.Sync()
	fmt.Println(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// reporter writes reports, one at a time.
type reporter struct {
	mu  sync.Mutex
	enc *json.Encoder
	err error
}

func (r *reporter) report(v report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = r.enc.Encode(v)
	}
}

// asWorker carries out the plan.
func asWorker() error {
	port, err := os.OpenFile(resultsPort, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	r := &reporter{enc: json.NewEncoder(port)}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	r.report(report{Kernel: unix.ByteSliceToString(name.Release[:])})
	if err := carryOut(r); err != nil {
		r.report(report{Error: err.Error()})
	}
	r.report(report{Done: true})
	// The machine goes off with what the port still holds, unless it is drained.
	return errors.Join(r.err, unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1))
}

func carryOut(r *reporter) error {
	text, err := os.ReadFile(planPath)
	if err != nil {
		return err
	}
	var p plan
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	for _, path := range p.Modules {
		b, err := os.ReadFile(path)
		if err == nil {
			err = unix.InitModule(b, "")
		}
		if err != nil && !errors.Is(err, unix.EEXIST) {
			r.report(report{Error: fmt.Sprintf("load %s: %v", path, err)})
		}
	}
	if err := linkUp("lo"); err != nil {
		return err
	}
	for _, run := range p.Runs {
		code := run.run(r)
		r.report(report{Run: run.Name, Exit: &code})
	}
	return nil
}

// linkUp is `ip link set NAME up`.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}

// run reports what a binary prints and returns its exit code; -1 if it did
// not run or was killed.
func (x run) run(r *reporter) int {
	pr, pw, err := os.Pipe()
	if err != nil {
		r.report(report{Run: x.Name, Line: err.Error()})
		return -1
	}
	defer pr.Close()
	cmd := exec.Command(x.Args[0], x.Args[1:]...)
	cmd.Env = append(x.Env, "PATH=/bin", "HOME=/tmp", "TMPDIR=/tmp")
	cmd.Stdout, cmd.Stderr = pw, pw
	err = cmd.Start()
	pw.Close()
	if err != nil {
		r.report(report{Run: x.Name, Line: err.Error()})
		return -1
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		in := bufio.NewReader(pr)
		for {
			line, err := in.ReadString('\n')
			if line = strings.TrimRight(line, "\n"); line != "" {
				r.report(report{Run: x.Name, Line: line})
			}
			if err != nil {
				if err != io.EOF {
					r.report(report{Error: err.Error()})
				}
				return
			}
		}
	}()
	err = cmd.Wait()
	select {
	case <-told:
	case <-time.After(5 * time.Second): // somebody it left behind holds the pipe
		r.report(report{Error: x.Name + " left processes behind"})
	}
	if cmd.ProcessState == nil {
		r.report(report{Run: x.Name, Line: err.Error()})
		return -1
	}
	return cmd.ProcessState.ExitCode()
}
