package stand

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// notices is the supervisor's end of sd_notify(3): sallyport says there when
// it serves.
type notices struct {
	c     *net.UnixConn
	ready atomic.Bool // READY=1 was said
}

func (s *Stand) listenNotices() error {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.notifySocket(), Net: "unixgram"})
	if err != nil {
		return err
	}
	s.notices = &notices{c: c}
	go s.notices.read()
	return nil
}

func (s *Stand) notifySocket() string { return filepath.Join(s.Dir, "notify") }

// read takes what is said until the socket is closed; nobody must wait to say it.
func (n *notices) read() {
	buf := make([]byte, 4096)
	for {
		k, err := n.c.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buf[:k])) {
			if strings.TrimSpace(line) == "READY=1" {
				n.ready.Store(true)
			}
		}
	}
}

func (n *notices) said() error {
	if !n.ready.Load() {
		return errors.New("it has not said that it serves")
	}
	return nil
}

func (n *notices) close() error {
	if n == nil {
		return nil
	}
	return n.c.Close()
}
