package parser

import (
	"os"
	"runtime"
	"syscall"
)

// spawner starts helpers from one thread that lives as long as the pool: a
// helper's signal for its parent's death is for the death of that thread.
type spawner struct {
	requests chan chan<- spawned
	ended    chan struct{}
}

type spawned struct {
	h   *helper
	err error
}

func newSpawner() *spawner {
	s := &spawner{requests: make(chan chan<- spawned), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for r := range s.requests {
			h, err := startHelper()
			r <- spawned{h, err}
		}
	}()
	return s
}

func (s *spawner) start() (*helper, error) {
	r := make(chan spawned, 1)
	s.requests <- r
	got := <-r
	return got.h, got.err
}

func (s *spawner) close() {
	close(s.requests)
	<-s.ended
}

// startHelper starts this program as a helper, with nothing but its two
// pipes.
func startHelper() (*helper, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inR.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inW.Close()
		return nil, err
	}
	defer outW.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		inW.Close()
		outR.Close()
		return nil, err
	}
	defer null.Close()
	proc, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], Command}, &os.ProcAttr{
		Dir: "/",
		// Two threads are enough, and a crash must not print anything.
		Env:   []string{"GOMAXPROCS=2", "GOTRACEBACK=none", "LC_ALL=C"},
		Files: []*os.File{inR, outW, null},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		inW.Close()
		outR.Close()
		return nil, err
	}
	return &helper{proc: proc, in: inW, out: outR}, nil
}
