package stand

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// notices is the supervisor's end of sd_notify(3): sallyport says there when
// it serves.
type notices struct{ c *net.UnixConn }

func (s *Stand) listenNotices() (*notices, error) {
	path := s.notifySocket()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	return &notices{c}, err
}

func (s *Stand) notifySocket() string { return filepath.Join(s.Dir, "notify") }

// ready reports nil once READY=1 was said.
func (n *notices) ready() error {
	buf := make([]byte, 4096)
	_ = n.c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	k, err := n.c.Read(buf)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(buf[:k])) {
		if strings.TrimSpace(line) == "READY=1" {
			return nil
		}
	}
	return errors.New("not ready yet")
}
