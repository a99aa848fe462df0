package spiffe

import (
	"bytes"
	"context"

	delegatedv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Delegated speaks SPIRE's Delegated Identity API, at the agent's admin
// socket. The agent attests who connects, and wants one of its SPIFFE IDs in
// authorized_delegates.
type Delegated struct {
	conn   *grpc.ClientConn
	client delegatedv1.DelegatedIdentityClient
}

// NewDelegated takes the address of the admin socket (unix:///PATH). It does
// not wait for the agent.
func NewDelegated(address string) (*Delegated, error) {
	conn, err := dial(address, insecure.NewCredentials())
	if err != nil {
		return nil, err
	}
	return &Delegated{conn, delegatedv1.NewDelegatedIdentityClient(conn)}, nil
}

// Watch implements API.
func (d *Delegated) Watch(ctx context.Context, pid int32, told func([]Told) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := d.client.SubscribeToX509SVIDs(ctx, &delegatedv1.SubscribeToX509SVIDsRequest{Pid: pid})
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		list := make([]Told, 0, len(r.X509Svids))
		for _, s := range r.X509Svids {
			list = append(list, Told{
				ID: idOf(s.GetX509Svid().GetId()), Hint: s.GetX509Svid().GetHint(),
				Chain: bytes.Join(s.GetX509Svid().GetCertChain(), nil), Key: s.GetX509SvidKey(), Via: ViaDelegated,
			})
		}
		if err := told(list); err != nil {
			return err
		}
	}
}

// JWT implements API.
func (d *Delegated) JWT(ctx context.Context, pid int32, audience []string) ([]ToldJWT, error) {
	r, err := d.client.FetchJWTSVIDs(ctx, &delegatedv1.FetchJWTSVIDsRequest{Pid: pid, Audience: audience})
	if err != nil {
		return nil, err
	}
	var list []ToldJWT
	for _, s := range r.Svids {
		list = append(list, ToldJWT{ID: idOf(s.GetId()), Hint: s.GetHint(), Token: s.GetToken()})
	}
	return list, nil
}

// Close hangs up.
func (d *Delegated) Close() error { return d.conn.Close() }

func idOf(id *types.SPIFFEID) string {
	return "spiffe://" + id.GetTrustDomain() + id.GetPath()
}
