package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A change of settings takes two steps, so that loader and daemon never use
// different ones: the daemon prepares what the bundle says and holds new
// connections back, the loader changes the guard and whom it proves, and then
// the daemon commits.
//
// The loader sends orders, and the daemon answers some with a verdict. Each is
// one JSON object in one packet; descriptors may go along.
type order struct {
	Do    string
	Text  string   `json:",omitempty"`
	Names []string `json:",omitempty"` // of the descriptors that go along, or of what is meant
	ID    string   `json:",omitempty"` // of doLogin and doApprovals, for the answer
}

const (
	doPrepare   = "prepare" // with the bundle's descriptor; answered
	doCommit    = "commit"
	doAbort     = "abort"     // forget what was prepared; Text says why
	doRefused   = "refused"   // the loader itself refused a reload; Text says why
	doAlarm     = "alarm"     // Text is for the record
	doSwept     = "swept"     // Text is a redirect.Bypass, for the record
	doHealth    = "health"    // Text is figures, for the metrics
	doSecrets   = "secrets"   // with the descriptor of what the files of accounts hold now; the daemon asks for it by a verdict
	doNames     = "names"     // with the descriptor of a names.Map: what DNS names lead to
	doLogin     = "login"     // a person logs in: with nothing a login begins at the provider in Text, with a descriptor its answer is in there; answered, in any order
	doApprovals = "approvals" // with the descriptors of a question about approvals and of its answer; answered, in any order
	doNote      = "note"      // Text is a note; answered once it is durable on the record

	doListen   = "listen"   // with listeners, each by its name (see passageName)
	doUnlisten = "unlisten" // the named listeners are closed
	doAdopt    = "adopt"    // with connections that a daemon before this one had accepted
	doPause    = "pause"    // accept no more; answered with the listeners and the connections that no session has
	doResume   = "resume"   // accept again, whatever came of the drain
	doDrain    = "drain"    // sessions end, within the duration in Text; answered when they have
	doFinish   = "finish"   // end the process in order; Text says why
)

// verdict is the answer to the order To. Without Err it was done.
type verdict struct {
	To     string   `json:",omitempty"`
	Err    string   `json:",omitempty"`
	Config bool     `json:",omitempty"` // it is the operator's to correct: exit code 2
	Names  []string `json:",omitempty"` // of the descriptors that go along
	More   bool     `json:",omitempty"` // another verdict belongs to the same answer

	ID    string            `json:",omitempty"` // of the order
	Terms map[string]string `json:",omitempty"` // what came of it, for who logs in

	fds []int // whoever reads the verdict closes them
}

const (
	maxPacket = 64 << 10
	maxText   = 10 << 10 // of an order or verdict; JSON makes it six times as long at most
	maxFDs    = 200      // in one packet; the kernel takes 253
)

// line is one end of the way of orders. An end that does not read holds the
// other up for patience, once: then the line is cut.
type line struct {
	conn     *net.UnixConn
	patience time.Duration
}

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
	return &line{u, answerTime}, nil
}

// order sends an order; the descriptors that go along stay the caller's.
func (l *line) order(do, text string, fds ...int) error {
	return l.write(order{Do: do, Text: cutText(text)}, fds)
}

// name sends an order about names, and descriptors with these names.
func (l *line) name(do string, names []string, fds ...int) error {
	return l.write(order{Do: do, Names: names}, fds)
}

// answer sends a verdict with its descriptors, which stay the caller's.
func (l *line) answer(v verdict) error {
	v.Err = cutText(v.Err)
	return l.write(v, v.fds)
}

func (l *line) write(v any, fds []int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(l.patience))
	_, _, err = l.conn.WriteMsgUnix(b, oob, nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.conn.Close()
		return fmt.Errorf("the other side has read nothing for %s: %w", l.patience, err)
	}
	return err
}

// cutText cuts a text that is too long for a packet.
func cutText(s string) string { return cutTo(s, maxText) }

// cutTo cuts a text to a limit that has room for saying so.
func cutTo(s string, limit int) string {
	const mark = "\n(more was cut)"
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len(mark)], "") + mark
}

// next waits for an order and the descriptors that come along, which are the
// caller's. io.EOF: the loader is gone.
func (l *line) next() (o order, fds []int, err error) {
	b, fds, err := l.read()
	if err != nil {
		return o, nil, err
	}
	if err = json.Unmarshal(b, &o); err == nil {
		err = o.fits(len(fds))
	}
	if err != nil {
		letGo(fds)
		return o, nil, err
	}
	return o, fds, nil
}

// fits refuses an order with other descriptors than belong to it.
func (o *order) fits(fds int) error {
	want := 0
	switch o.Do {
	case doPrepare, doSecrets, doNames:
		want = 1
	case doLogin:
		want = min(fds, 1)
	case doApprovals:
		want = 2
	case doListen, doAdopt:
		want = len(o.Names)
	}
	if fds != want {
		return fmt.Errorf("order %q: %d descriptors came along, not %d", o.Do, fds, want)
	}
	return nil
}

// verdict waits for the daemon's.
func (l *line) verdict() (v verdict, err error) {
	b, fds, err := l.read()
	if err != nil {
		return v, err
	}
	if err = json.Unmarshal(b, &v); err == nil && len(fds) != len(v.Names) {
		err = fmt.Errorf("verdict on %q: %d descriptors came along, not %d", v.To, len(fds), len(v.Names))
	}
	if err != nil {
		letGo(fds)
		return verdict{}, err
	}
	v.fds = fds
	return v, nil
}

func (l *line) read() ([]byte, []int, error) {
	b, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*253))
	n, on, flags, _, err := l.conn.ReadMsgUnix(b, oob) // close-on-exec is set
	if err != nil {
		return nil, nil, err
	}
	fds := rights(oob[:on])
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a packet that is too long")
	}
	if err != nil {
		letGo(fds)
		return nil, nil, err
	}
	return b[:n], fds, nil
}

func rights(oob []byte) (fds []int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// letGo closes descriptors of the daemon's. It does not wait: what they are of,
// and who serves it, says how long that takes.
func letGo(fds []int) {
	if len(fds) > 0 {
		go closeAll(fds)
	}
}

func (l *line) close() error { return l.conn.Close() }
