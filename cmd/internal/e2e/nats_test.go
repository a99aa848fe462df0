package e2e

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"sallyport.dev/sallyport/cmd/internal/stand"
	"sallyport.dev/sallyport/events/jetstream"
)

// natsServer is a NATS server of somebody else's: with JetStream, one account,
// and one user that may do everything in it.
type natsServer struct {
	dir    string
	port   int
	user   string // public key
	seed   []byte
	server *server.Server // nil while it is away
}

func newNATS(dir string) (*natsServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.Close()
	n := &natsServer{dir: dir, port: l.Addr().(*net.TCPAddr).Port}
	kp, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	if n.user, err = kp.PublicKey(); err != nil {
		return nil, err
	}
	n.seed, err = kp.Seed()
	return n, err
}

func (n *natsServer) start() error {
	if n.server != nil {
		return errors.New("NATS runs already")
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n.port, JetStream: true, StoreDir: n.dir, NoLog: true, NoSigs: true,
		Nkeys: []*server.NkeyUser{{Nkey: n.user}},
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return errors.New("NATS does not start")
	}
	n.server = s
	return nil
}

func (n *natsServer) stop() error {
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
	return nil
}

// prepare gives the stand this server in place of the embedded one.
func (n *natsServer) prepare(_ context.Context, s *stand.Stand) error {
	if err := n.start(); err != nil {
		return err
	}
	for _, role := range []string{jetstream.RoleHost, jetstream.RoleRecorder, jetstream.RoleSIEM} {
		file := s.Seed(role) // where the words of the stories look for it
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file, n.seed, 0o600); err != nil {
			return err
		}
	}
	s.Cfg.Evidence.NATS.URL = "nats://127.0.0.1:" + strconv.Itoa(n.port)
	s.Cfg.Evidence.NATS.Credentials = s.Seed(jetstream.RoleHost)
	return s.WriteConfig()
}
