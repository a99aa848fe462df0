package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A change of settings takes two steps, so that loader and daemon never use
// different ones: the daemon prepares what the bundle says and holds new
// connections back, the loader changes the guard and whom it proves, and then
// the daemon commits.
//
// The loader sends orders, the daemon answers prepare with a verdict. Each is
// one JSON object in one packet; prepare carries the bundle's descriptor.
type order struct {
	Do   string
	Text string `json:",omitempty"`
}

const (
	doPrepare = "prepare"
	doCommit  = "commit"
	doAbort   = "abort"   // forget what was prepared; Text says why
	doRefused = "refused" // the loader itself refused a reload; Text says why
	doAlarm   = "alarm"   // Text is for the record
	doSwept   = "swept"   // Text is a redirect.Bypass, for the record
)

// verdict is empty when the daemon is prepared.
type verdict struct {
	Err    string `json:",omitempty"`
	Config bool   `json:",omitempty"` // it is the operator's to correct: exit code 2
}

const (
	maxPacket = 64 << 10
	maxText   = 10 << 10 // of an order or verdict; JSON makes it six times as long at most
)

// line is one end of the way of orders.
type line struct{ conn *net.UnixConn }

// newLine returns the loader's end, and the daemon's to be inherited.
func newLine() (*line, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "daemon")
	ours, err := lineOf(os.NewFile(uintptr(fds[0]), "loader"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// lineOf takes an end over.
func lineOf(f *os.File) (*line, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("the line of orders is no unix socket")
	}
	return &line{u}, nil
}

// order sends an order; file, when not nil, goes along.
func (l *line) order(do, text string, file *os.File) error {
	var oob []byte
	if file != nil {
		oob = unix.UnixRights(int(file.Fd()))
	}
	return l.write(order{do, cutText(text)}, oob)
}

func (l *line) answer(v verdict) error {
	v.Err = cutText(v.Err)
	return l.write(v, nil)
}

func (l *line) write(v any, oob []byte) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, _, err = l.conn.WriteMsgUnix(b, oob, nil)
	return err
}

// cutText cuts a text that is too long for a packet.
func cutText(s string) string {
	const mark = "\n(more was cut)"
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText-len(mark)], "") + mark
}

// next waits for an order; the file is nil unless one came along. io.EOF: the
// loader is gone.
func (l *line) next() (o order, file *os.File, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	b, oob, err := l.read(oob)
	if err != nil {
		return o, nil, err
	}
	if msgs, err := unix.ParseSocketControlMessage(oob); err == nil && len(msgs) == 1 {
		if fds, err := unix.ParseUnixRights(&msgs[0]); err == nil && len(fds) == 1 {
			unix.CloseOnExec(fds[0])
			file = os.NewFile(uintptr(fds[0]), "bundle")
		}
	}
	if err = json.Unmarshal(b, &o); err == nil && (file != nil) != (o.Do == doPrepare) {
		err = fmt.Errorf("order %q: a bundle goes with prepare only", o.Do)
	}
	if err != nil && file != nil {
		file.Close()
		file = nil
	}
	return o, file, err
}

// verdict waits for the daemon's.
func (l *line) verdict() (v verdict, err error) {
	b, _, err := l.read(nil)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	return v, err
}

func (l *line) read(oob []byte) ([]byte, []byte, error) {
	b := make([]byte, maxPacket)
	n, on, flags, _, err := l.conn.ReadMsgUnix(b, oob)
	switch {
	case err != nil:
		return nil, nil, err
	case n == 0:
		return nil, nil, io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return nil, nil, errors.New("a packet that is too long")
	}
	return b[:n], oob[:on], nil
}

func (l *line) close() error { return l.conn.Close() }
