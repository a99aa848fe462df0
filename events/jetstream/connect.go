package jetstream

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Connect dials a NATS server. credentials is an nkey seed file (of an
// embedded server: DIR/keys/<role>.nk) or a .creds file. The connection
// reconnects for ever, and the log tells what is wrong with TLS meanwhile.
func Connect(url, credentials string, opts ...nats.Option) (*nats.Conn, error) {
	var t teller
	all := []nats.Option{
		nats.Name("sallyport"), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second), nats.ReconnectBufSize(-1), nats.PermissionErrOnSubscribe(true),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { slog.Warn("NATS", "error", err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { t.tell(err) }),
	}
	auth, err := authenticate(credentials)
	if err != nil {
		return nil, err
	}
	nc, err := nats.Connect(url, append(append(all, auth...), opts...)...)
	if errors.Is(err, nats.ErrAuthorization) {
		return nil, fmt.Errorf("jetstream: NATS does not know the key in %s: %w", credentials, err)
	}
	if why := untrusted(err); why != nil {
		err = why
	}
	if err != nil {
		return nil, fmt.Errorf("jetstream: connect to NATS %s: %w", url, err)
	}
	go t.follow(nc)
	return nc, nil
}

func authenticate(file string) ([]nats.Option, error) {
	if file == "" {
		return nil, nil
	}
	if strings.HasSuffix(file, ".creds") {
		return []nats.Option{nats.UserCredentials(file)}, nil
	}
	// The embedded server lets each role listen to inboxes of its own only.
	role := strings.TrimSuffix(filepath.Base(file), ".nk")
	opt, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, fmt.Errorf("jetstream: nkey seed %s: %w", file, err)
	}
	opts := []nats.Option{opt}
	if role == RoleHost || role == RoleRecorder || role == RoleSIEM || role == RoleSink || role == RoleApprovals || role == RoleNotify {
		opts = append(opts, nats.CustomInboxPrefix("_INBOX_"+role))
	}
	return opts, nil
}

// teller logs why TLS to NATS does not come about: a connection that is tried for ever
// would keep it to itself.
type teller struct {
	mu   sync.Mutex
	said string
	at   time.Time
}

// tellAgain is when the same is worth another line.
const tellAgain = time.Minute

func (t *teller) tell(err error) {
	why := untrusted(err)
	if why == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if said := why.Error(); said != t.said || time.Since(t.at) >= tellAgain {
		slog.Warn("no connection to NATS", "error", why)
		t.said, t.at = said, time.Now()
	}
}

// follow looks at each attempt that came to nothing, until the connection is closed:
// nats.go hands its handler those alone that reached no server.
func (t *teller) follow(nc *nats.Conn) {
	states := nc.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	for !nc.IsClosed() {
		if <-states == nats.CLOSED {
			return
		}
		t.tell(nc.LastError())
	}
}
