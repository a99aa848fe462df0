package privsep

import (
	"context"
	"errors"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept"
)

// hanging never answers, whatever becomes of its context: as a token file on a
// file system that the workload serves.
type hanging struct{ asked, end chan struct{} }

func (h hanging) Prove(context.Context, *intercept.Peer) (intercept.Proof, error) {
	close(h.asked)
	<-h.end
	return intercept.Proof{}, errors.New("too late")
}

func TestServeEndsBesideAProofThatHangs(t *testing.T) {
	ours, theirs, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	var s Sockets
	peer := s.Peer(t, intercept.Peer{TGID: 1})
	h := hanging{make(chan struct{}), make(chan struct{})}
	defer close(h.end)
	ended := make(chan error, 1)
	go func() { ended <- serve(context.Background(), ours, h, s.Record) }()
	c, err := packetConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(c)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() {
		_, err := client.Prove(ctx, peer)
		answered <- err
	}()
	<-h.asked
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	client.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * patience):
		t.Error("it waits for a proof that never comes")
	}
}
