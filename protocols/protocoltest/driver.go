package protocoltest

import (
	"bufio"
	"net"
	"net/netip"
	"slices"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// Driver is what a protocol brings to the suite: a real server, and how its
// clients speak, in bytes.
type Driver struct {
	Server netip.AddrPort

	// Hello is what a client says to log in, in one go; Welcome reads the
	// answer up to where requests can be sent.
	Hello   []byte
	Welcome func(*bufio.Reader) error
	// Bye is what a client says before it leaves.
	Bye []byte

	// Talks are harmless requests. They may be said to one server many times.
	Talks []Talk
	// Answer reads the answer to one request, whole.
	Answer func(*bufio.Reader) ([]byte, error)
	// Stir is a short request among Talks whose answer is a few bytes. Words
	// are bytes of it that reach the server only if it is sent.
	Stir, Words []byte

	// Blocked is a request with the command that the suite's engine refuses,
	// and BlockedWords bytes of it.
	Command               string
	Blocked, BlockedWords []byte
	// Refused reports that an answer is a refusal in the protocol's own words.
	Refused func(answer []byte) bool

	// Unknown is a message that the protocol does not have.
	Unknown []byte
	// Large is a request that is larger than what is inspected, nil where
	// there is no such limit. It is refused.
	Large []byte

	// For fuzzing, where no real server is used.
	Fake  func(net.Conn) // serves a session, login included, to its end
	Admit func(net.Conn) // serves a login
	// Innocent holds that bytes of a session which is refused everything hold
	// nothing of what it asked for.
	Innocent func(sent []byte) error
	// Whole holds that a server's bytes are whole messages. They may end in one
	// that is cut.
	Whole func(got []byte) error
	// Login holds that what a server got begins with a login.
	Login func(sent []byte) error
	// Greeted is Whole for what a client got that may not have logged in.
	Greeted func(got []byte) error
}

// Talk is what a client says, and how many answers it gets.
type Talk struct {
	Name    string
	Say     []byte
	Answers int
}

// engine allows everything but one command.
type engine struct {
	login   bool // allows that much
	refused string
}

// Scope implements policy.Engine.
func (e engine) Scope(*policy.Session, time.Time) *policy.Scope {
	return &policy.Scope{ID: "all but " + e.refused, Static: true, Opaque: true}
}

// Evaluate implements policy.Engine.
func (e engine) Evaluate(r *policy.Request) policy.Evaluation {
	switch {
	case !e.login:
		return policy.Evaluation{Reason: "nobody comes in", Remedy: "go away"}
	case slices.Contains(r.Commands, e.refused):
		return policy.Evaluation{Effect: policy.EffectBlock, Rules: []string{"suite"}, Reason: "the suite forbids it", Remedy: "leave it"}
	}
	return policy.Evaluation{Effect: policy.EffectAllow, Rules: []string{"all"}}
}

// client is a client that says what a Driver tells it.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (d *Driver) client(c net.Conn) *client { return &client{c, bufio.NewReader(c)} }

// expired is an identity that proves nothing any more.
func expired(_ int, id *intercept.Identity) { id.Expires = time.Now().Add(-time.Second) }
