package privsep

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// talkVersion is that of the messages. A loader of another version is not
// understood, and says so.
const talkVersion = 1

const (
	magicTalk = 0x31545053 // "SPT1", before a Message as JSON
	maxTalk   = 64 << 10
	// MaxFDs is how many descriptors may go along with a Message.
	MaxFDs = 200
)

// ErrNobody: no loader answers at a control socket.
var ErrNobody = errors.New("sallyport does not run here")

// Message is one packet of a Talk.
type Message struct {
	Version int
	Do      string            // what is asked, or what has come to be
	Text    string            `json:",omitempty"` // of a refusal, or whatever Do says
	Terms   map[string]string `json:",omitempty"` // on which it is asked
	Names   []string          `json:",omitempty"` // of the descriptors that go along
	More    bool              `json:",omitempty"` // another Message belongs to it

	// FDs of a Message that was received are the receiver's to close, those of
	// one that is sent stay the sender's.
	FDs []int `json:"-"`
}

// Caller is the process at the other end of the control socket, by its
// credentials: a process of root's.
type Caller struct {
	PID int32
	UID uint32
	Exe string // path of its executable, "" when it has ended already
}

// Talk is a conversation with the loader over its control socket, by root: an
// operator's command, or the loader that takes its place.
type Talk struct {
	conn   *net.UnixConn
	caller Caller
	first  *Message
	close  sync.Once
	closed chan struct{}
}

// Call begins a conversation with the loader at socket. ErrNobody: there is
// none.
func Call(ctx context.Context, socket string) (*Talk, error) {
	conn, err := dialControl(ctx, socket)
	if err != nil {
		return nil, err
	}
	return newTalk(conn), nil
}

// dialControl finds a loader that belongs to root.
func dialControl(ctx context.Context, socket string) (*net.UnixConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", socket)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: only root may ask the loader: use sudo", socket)
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w (%v): start it with `sallyport run`", ErrNobody, err)
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	}
	conn := c.(*net.UnixConn)
	if cred, err := credentials(conn); err != nil || cred.Uid != 0 {
		c.Close()
		return nil, fmt.Errorf("%s: does not belong to a loader run by root: look who made it", socket)
	}
	return conn, nil
}

func newTalk(conn *net.UnixConn) *Talk {
	return &Talk{conn: conn, closed: make(chan struct{})}
}

// answerTalk begins the loader's side of a conversation with its first packet.
func answerTalk(conn *net.UnixConn, who caller, packet []byte, fds []int) (*Talk, error) {
	m, err := parseMessage(packet, fds)
	if err != nil {
		return nil, err
	}
	t := newTalk(conn)
	t.first = &m
	t.caller = Caller{PID: who.pid} // and user 0, or callerOf had refused
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", who.pid)); err == nil && pidfdAlive(who.pidfd) == nil {
		t.caller.Exe = exe
	}
	return t, nil
}

// Caller returns who called, on the loader's side.
func (t *Talk) Caller() Caller { return t.caller }

// Closed is closed with the Talk.
func (t *Talk) Closed() <-chan struct{} { return t.closed }

// Close hangs up. It may be called again, and while others send or receive.
func (t *Talk) Close() error {
	var err error
	t.close.Do(func() {
		close(t.closed)
		err = t.conn.Close()
	})
	return err
}

// Send sends a message. The other side reads while it waits, so it is given a
// few seconds.
func (t *Talk) Send(m Message) error {
	m.Version = talkVersion
	if len(m.Text) > maxString {
		m.Text = m.Text[:maxString]
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	b = append(binary.LittleEndian.AppendUint32(nil, magicTalk), b...)
	var oob []byte
	if len(m.FDs) > 0 {
		oob = unix.UnixRights(m.FDs...)
	}
	_ = t.conn.SetWriteDeadline(time.Now().Add(patience))
	_, _, err = t.conn.WriteMsgUnix(b, oob, nil)
	return err
}

// Receive waits for a message, for at most limit unless it is 0. io.EOF: the
// other side has hung up.
func (t *Talk) Receive(limit time.Duration) (Message, error) {
	if m := t.first; m != nil {
		t.first = nil
		return *m, nil
	}
	var until time.Time
	if limit > 0 {
		until = time.Now().Add(limit)
	}
	_ = t.conn.SetReadDeadline(until)
	b, fds, err := readPacket(t.conn, maxTalk, MaxFDs)
	if err != nil {
		if errors.Is(err, unix.ECONNRESET) {
			err = io.EOF
		}
		return Message{}, err
	}
	return parseMessage(b, fds)
}

// parseMessage closes the descriptors on an error.
func parseMessage(b []byte, fds []int) (m Message, err error) {
	defer func() {
		if err != nil {
			closeFDs(fds)
		}
	}()
	if !isTalk(b) {
		return m, fmt.Errorf("%w: the running sallyport is of another version and does not understand", errMalformed)
	}
	if err := json.Unmarshal(b[4:], &m); err != nil {
		return m, fmt.Errorf("%w: %w", errMalformed, err)
	}
	if m.Version != talkVersion {
		return m, fmt.Errorf("control socket: messages of version %d are spoken here, not %d", talkVersion, m.Version)
	}
	if len(m.Names) != len(fds) {
		return m, fmt.Errorf("%w: %d names, %d descriptors", errMalformed, len(m.Names), len(fds))
	}
	m.FDs = fds
	return m, nil
}

func isTalk(b []byte) bool {
	return len(b) > 4 && binary.LittleEndian.Uint32(b) == magicTalk
}

// readPacket reads one packet and the descriptors that came along, which are
// the caller's.
func readPacket(conn *net.UnixConn, size, most int) ([]byte, []int, error) {
	buf, oob := make([]byte, size), make([]byte, unix.CmsgSpace(4*most))
	n, oobn, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, nil, err
	}
	fds := descriptors(oob[:oobn])
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errMalformed
	}
	if err != nil {
		closeFDs(fds)
		return nil, nil, err
	}
	return buf[:n], fds, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
