package recorder_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/jetstream/natstest"
)

// cluster is three NATS servers of the user's own, as docs/nats.example.conf has them.
type cluster struct {
	dir       string
	conf      string
	authority *natstest.Authority
	proof     jetstream.TLS         // of the nodes
	nodes     [3]*natsserver.Server // nil: lost
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	conf, err := os.ReadFile("../../docs/nats.example.conf")
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{dir: t.TempDir(), conf: strings.Replace(string(conf), "# verify: true", "verify: true", 1)}
	if c.conf == string(conf) {
		t.Fatal("docs/nats.example.conf does not say how clients are asked for certificates")
	}
	c.authority = natstest.NewAuthority(t, c.dir)
	var at []net.IP
	for i := range c.nodes {
		host, _, err := net.SplitHostPort(c.address(i, 14222))
		if err != nil {
			t.Fatal(err)
		}
		at = append(at, net.ParseIP(host))
	}
	c.proof = c.authority.Issue(t, "nodes", time.Now().Add(time.Hour), at...)
	for _, role := range []string{"setup", "host", "recorder"} {
		kp, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := kp.Seed()
		if err != nil {
			t.Fatal(err)
		}
		pub, err := kp.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		// Not the names of the embedded server's files, which tell of its inboxes.
		if err := os.WriteFile(c.seed(role), seed, 0o600); err != nil {
			t.Fatal(err)
		}
		c.conf = fmt.Sprintf("%s_USER: %s\n", strings.ToUpper(role), pub) + c.conf
	}
	for i := range c.nodes {
		c.start(t, i)
	}
	t.Cleanup(func() {
		for i := range c.nodes {
			c.lose(i)
		}
	})
	return c
}

// address is of this process alone, and stays a node's own while that is away: its
// number is in it, and the ports are below those that the kernel gives out.
func (c *cluster) address(i, port int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+pid>>14&0x7f, pid>>6&0xff, pid&0x3f<<2+i, port)
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	conf := fmt.Sprintf("NAME: node-%d\nADDRESS_CLIENTS: %q\nADDRESS_ROUTES: %q\nDATA: %q\n", i, c.address(i, 14222), c.address(i, 16222), filepath.Join(c.dir, fmt.Sprint(i)))
	conf += fmt.Sprintf("CA: %q\nCERT: %q\nKEY: %q\n", c.proof.CA, c.proof.Cert, c.proof.Key)
	for n := range c.nodes {
		conf += fmt.Sprintf("ROUTE_%d: %q\n", n+1, "nats-route://"+c.address(n, 16222))
	}
	opts := &natsserver.Options{}
	if err := opts.ProcessConfigString(conf + c.conf); err != nil {
		t.Fatal(err)
	}
	opts.NoLog, opts.NoSigs = true, true
	s, err := natsserver.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	c.nodes[i] = s
	if !s.ReadyForConnections(time.Minute) {
		t.Fatalf("node %d does not start at %s", i, c.address(i, 14222))
	}
}

func (c *cluster) lose(i int) {
	if s := c.nodes[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		c.nodes[i] = nil
	}
}

// leader is the node that leads the stream, -1 for none.
func (c *cluster) leader() int {
	return slices.IndexFunc(c.nodes[:], func(s *natsserver.Server) bool {
		return s != nil && s.JetStreamIsStreamLeader("SALLYPORT", jetstream.StreamName)
	})
}

// whole reports whether each node has all of the stream.
func (c *cluster) whole() bool {
	for _, s := range c.nodes {
		if s == nil || !s.JetStreamIsStreamCurrent("SALLYPORT", jetstream.StreamName) {
			return false
		}
	}
	return c.leader() >= 0
}

// connect is a client of the cluster.
func (c *cluster) connect(t *testing.T, role string) *nats.Conn {
	t.Helper()
	var urls []string
	for i := range c.nodes {
		urls = append(urls, "tls://"+c.address(i, 14222))
	}
	nc, err := jetstream.Connect(strings.Join(urls, ","), c.seed(role), c.authority.Client(t, role).Option(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func (c *cluster) file(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) seed(role string) string { return c.file("key-of-" + role + ".nk") }
