package spiffe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// API is how an agent tells the identities of another process. An error's
// gRPC code says whether the agent refused (see refused) or can't be had.
type API interface {
	// Watch has the agent attest a process of this host and hands every list of
	// its X.509-SVIDs to told: the first answer, and each change. An empty list
	// says that it has none. Watch returns when ctx ends, told fails or the
	// agent ends the stream, with the reason: never nil.
	Watch(ctx context.Context, pid int32, told func([]Told) error) error
	// JWT has the agent attest a process and returns its JWT-SVIDs for the
	// audience.
	JWT(ctx context.Context, pid int32, audience []string) ([]ToldJWT, error)
}

// Told is an X.509-SVID as an agent tells it: nothing of it is checked.
type Told struct {
	ID    string
	Hint  string // what the entry's author wrote for choosing among several
	Chain []byte // DER, the leaf first
	Key   []byte // PKCS #8 DER
	Via   string // ViaBroker or ViaDelegated
}

// ToldJWT is a JWT-SVID as an agent tells it: nothing of it is checked.
type ToldJWT struct {
	ID, Hint, Token string
}

// Values of Via.
const (
	ViaBroker    = "broker"    // SPIFFE Broker API
	ViaDelegated = "delegated" // SPIRE's Delegated Identity API
)

var (
	// ErrNobody: the agent has answered, and there is no identity that the
	// connection could have.
	ErrNobody = errors.New("no SPIFFE identity")
	// ErrUnavailable: the agent has not answered.
	ErrUnavailable = errors.New("the SPIFFE agent does not answer")
)

// maxAnswer bounds an agent's answer, in bytes. An SVID with its key has two to
// four thousand.
const maxAnswer = 1 << 20

// dial connects to a socket of the agent; the connection is made when it is
// needed, and again when it was lost.
func dial(address string, creds credentials.TransportCredentials) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(connectParams),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	)
	if err != nil {
		return nil, fmt.Errorf("SPIFFE agent %s: %w", address, err)
	}
	return conn, nil
}

// connectParams: an agent that comes back is noticed within two seconds.
var connectParams = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
	MinConnectTimeout: 2 * time.Second,
}

// refused reports that the agent has answered, and the answer is no.
func refused(err error) bool {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.Unauthenticated, codes.NotFound, codes.InvalidArgument:
		return true
	}
	return false
}

// either asks the second only where the first is not to be had.
type either struct{ first, second API }

// Either returns an API that asks second where first is not offered, or can't
// be reached. What first answers stands, also when it refuses.
func Either(first, second API) API { return either{first, second} }

func (e either) Watch(ctx context.Context, pid int32, told func([]Told) error) error {
	answered := false
	err := e.first.Watch(ctx, pid, func(l []Told) error {
		answered = true
		return told(l)
	})
	if answered || !absent(err) || ctx.Err() != nil {
		return err
	}
	return e.second.Watch(ctx, pid, told)
}

func (e either) JWT(ctx context.Context, pid int32, audience []string) ([]ToldJWT, error) {
	l, err := e.first.JWT(ctx, pid, audience)
	if err == nil || !absent(err) || ctx.Err() != nil {
		return l, err
	}
	return e.second.JWT(ctx, pid, audience)
}

func absent(err error) bool {
	c := status.Code(err)
	return c == codes.Unimplemented || c == codes.Unavailable
}
