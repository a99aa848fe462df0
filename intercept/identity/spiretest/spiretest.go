// Package spiretest runs real SPIRE servers and agents for tests: built from
// tools/spire, started as processes that speak over loopback and unix sockets
// in a folder of their own, and ended with the test.
package spiretest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	agentv1 "github.com/spiffe/spire-api-sdk/proto/spire/api/server/agent/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// Options of a trust domain. The zero Options are those of most tests.
type Options struct {
	TrustDomain string   // "one.test" where ""
	Delegates   []string // SPIFFE IDs that may ask for others; nil: spiffe://TRUSTDOMAIN/sallyport
	Group       uint32   // of the agent, and so of its sockets; 0 is root's
	NoBroker    bool     // an agent as before 1.15.2: no SPIFFE Broker API
	// Slow leaves SPIRE its own intervals: an agent looks for changes every
	// five seconds, and the server too. Else both do ten times a second.
	Slow bool
	// AgentConf is the agent's configuration instead of the usual; nil: that.
	AgentConf func(s *Spire, serverPort int) string
}

// Spire is a server and one agent that it knows.
type Spire struct {
	TrustDomain string
	Dir         string // of the sockets and all else
	Server      string // the sockets' paths
	Workload    string
	Admin       string
	Broker      string // "" without
	Parent      string // SPIFFE ID of the agent, parent of entries

	t      testing.TB
	o      Options
	server *process
	agent  *process
	conn   *grpc.ClientConn
}

// ready is the time that a server or an agent has for its start.
const ready = time.Minute

// Bin returns the folder of spire-server and spire-agent. Where they are not
// built yet, the first call takes minutes.
func Bin(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatalf("build SPIRE: %v", err)
	}
	return dir
}

var build = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "../../..")
	bin := filepath.Join(root, ".cache/spire")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	// As .ci/deps does it: Go's cache knows what it has built.
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "tool")
	cmd.Dir = filepath.Join(root, "tools/spire")
	cmd.Stderr = os.Stderr
	return bin, cmd.Run()
})

// Start starts a trust domain. It ends with the test.
func Start(t testing.TB, o Options) *Spire {
	t.Helper()
	bin := Bin(t)
	if o.TrustDomain == "" {
		o.TrustDomain = "one.test"
	}
	if o.Delegates == nil {
		o.Delegates = []string{"spiffe://" + o.TrustDomain + "/sallyport"}
	}
	// The path of a unix socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "spire")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &Spire{
		TrustDomain: o.TrustDomain, Dir: dir, t: t, o: o,
		Server: dir + "/server/api.sock", Workload: dir + "/agent/api.sock", Admin: dir + "/admin/api.sock",
	}
	if !o.NoBroker {
		s.Broker = dir + "/broker/api.sock"
	}
	port := freePort(t)
	s.write("server.conf", serverConf(s, port))
	conf := agentConf
	if o.AgentConf != nil {
		conf = o.AgentConf
	}
	s.write("agent.conf", conf(s, port))
	s.server = start(t, 0, bin+"/spire-server", "run", "-config", dir+"/server.conf")
	s.dial()
	s.join()
	s.agent = start(t, o.Group, bin+"/spire-agent", "run", "-config", dir+"/agent.conf")
	s.await()
	return s
}

// dial connects to the server's own socket.
func (s *Spire) dial() {
	s.t.Helper()
	conn, err := grpc.NewClient("unix://"+s.Server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	s.conn = conn
	s.server.await(func() bool { return answers(s.Server) })
}

// join gives the agent its token, and the bundle that it trusts its server by.
func (s *Spire) join() {
	s.t.Helper()
	token, err := agentv1.NewAgentClient(s.conn).CreateJoinToken(s.ctx(), &agentv1.CreateJoinTokenRequest{Ttl: 600})
	if err != nil {
		s.t.Fatalf("a join token: %v", err)
	}
	s.Parent = "spiffe://" + s.TrustDomain + "/spire/agent/join_token/" + token.Value
	s.write("token", token.Value)
	s.write("bundle.pem", pemOf(s.Bundle()))
}

// await waits until the agent's sockets answer.
func (s *Spire) await() {
	s.t.Helper()
	s.agent.await(func() bool {
		return answers(s.Workload) && answers(s.Admin) && (s.Broker == "" || answers(s.Broker))
	})
}

// answers reports that somebody listens at a unix socket.
func answers(path string) bool {
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// StopAgent ends the agent as kill -9 does, and waits for its end.
func (s *Spire) StopAgent() { s.agent.stop() }

// StartAgent starts it again, with the identity that it had.
func (s *Spire) StartAgent() {
	s.t.Helper()
	for _, path := range []string{s.Workload, s.Admin, s.Broker} {
		os.Remove(path) // a killed agent leaves them
	}
	s.agent = start(s.t, s.o.Group, Bin(s.t)+"/spire-agent", "run", "-config", s.Dir+"/agent.conf")
	s.await()
}

// PauseAgent stops the agent (SIGSTOP): its sockets take connections, and
// nobody answers.
func (s *Spire) PauseAgent() { s.agent.pause(true) }

// ResumeAgent lets it go on.
func (s *Spire) ResumeAgent() { s.agent.pause(false) }

// AgentPID returns the agent's process id.
func (s *Spire) AgentPID() int { return s.agent.cmd.Process.Pid }

// AgentLog returns what the agent has logged since it was started.
func (s *Spire) AgentLog() string {
	b, _ := os.ReadFile(s.agent.log)
	return string(b)
}

func (s *Spire) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), ready)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *Spire) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func quoted(list []string) string {
	var q []string
	for _, s := range list {
		q = append(q, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(q, ", ") + "]"
}

func clone[M proto.Message](m M) M { return proto.Clone(m).(M) }
