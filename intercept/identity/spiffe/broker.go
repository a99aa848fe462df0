package spiffe

import (
	"context"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/exp/proto/spiffe/broker"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"
)

// Broker speaks the SPIFFE Broker API (an experiment of SPIRE 1.15.2 and
// newer) at a socket of its own. Both sides show their X.509-SVIDs.
type Broker struct {
	conn   *grpc.ClientConn
	client broker.APIClient
}

// NewBroker takes the address of the broker socket (unix:///PATH) and the
// daemon's own identity. It does not wait for the agent.
func NewBroker(address string, own *Source) (*Broker, error) {
	// The name below /spire is SPIRE's own: no entry can have it.
	isAgent := func(id spiffeid.ID) error {
		svid, err := own.GetX509SVID()
		if err != nil {
			return err
		}
		if !id.MemberOf(svid.ID.TrustDomain()) || !strings.HasPrefix(id.Path(), "/spire/agent/") {
			return fmt.Errorf("%s is no agent of %s", id, svid.ID.TrustDomain())
		}
		return nil
	}
	conn, err := dial(address, credentials.NewTLS(tlsconfig.MTLSClientConfig(own, own, tlsconfig.AdaptMatcher(isAgent))))
	if err != nil {
		return nil, err
	}
	return &Broker{conn, broker.NewAPIClient(conn)}, nil
}

// Watch implements API.
func (b *Broker) Watch(ctx context.Context, pid int32, told func([]Told) error) error {
	ctx, cancel := context.WithCancel(withHeader(ctx))
	defer cancel()
	ref, err := reference(pid)
	if err != nil {
		return err
	}
	stream, err := b.client.SubscribeToX509SVID(ctx, &broker.SubscribeToX509SVIDRequest{Reference: ref})
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		list := make([]Told, 0, len(r.Svids))
		for _, s := range r.Svids {
			list = append(list, Told{ID: s.GetSpiffeId(), Hint: s.GetHint(), Chain: s.GetX509Svid(), Key: s.GetX509SvidKey(), Via: ViaBroker})
		}
		if err := told(list); err != nil {
			return err
		}
	}
}

// JWT implements API.
func (b *Broker) JWT(ctx context.Context, pid int32, audience []string) ([]ToldJWT, error) {
	ref, err := reference(pid)
	if err != nil {
		return nil, err
	}
	r, err := b.client.FetchJWTSVID(withHeader(ctx), &broker.FetchJWTSVIDRequest{Reference: ref, Audience: audience})
	if err != nil {
		return nil, err
	}
	var list []ToldJWT
	for _, s := range r.Svids {
		list = append(list, ToldJWT{ID: s.GetSpiffeId(), Hint: s.GetHint(), Token: s.GetSvid()})
	}
	return list, nil
}

// Close hangs up.
func (b *Broker) Close() error { return b.conn.Close() }

func reference(pid int32) (*broker.WorkloadReference, error) {
	ref, err := anypb.New(&broker.WorkloadPIDReference{Pid: pid})
	if err != nil {
		return nil, fmt.Errorf("SPIFFE Broker API: %w", err)
	}
	return &broker.WorkloadReference{Reference: ref}, nil
}

// withHeader adds what every request must carry (SPIFFE Broker Endpoint).
func withHeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "broker.spiffe.io", "true")
}
