// Package jetstream carries a host's records to NATS: an embedded server for
// hosts that have none, the stream, the shipper that empties the journal into
// it in order and once, receipts that let the journal forget, and the view of
// a subscriber.
//
// JetStream is the way, never the point of durability: the journal keeps what
// it has until the recorder's signed receipt.
package jetstream

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Options of the embedded server. Dir, Listen and Host are required.
type Options struct {
	Dir     string        // keys and store; made with mode 0700
	Listen  string        // loopback ip:port; port 0 takes a free one
	Host    string        // the only name that the host user may publish under
	AckWait time.Duration // redelivery to a recorder that died; default 10 s
	Sinks   []string      // names of sinks: each gets a consumer that RoleSink may use
}

// Server is a nats-server in this process.
type Server struct {
	srv *server.Server
	dir string
}

// Names that readers of the stream must know.
const (
	StreamName       = "SALLYPORT"
	RecorderConsumer = "recorder" // durable; all records, explicit ack
	SIEMConsumer     = "siem"     // audit events from the start, no ack
)

// Each role lives in an account of its own. Permissions on subjects alone
// would not do: a client that may ask JetStream for a message names the
// subject that the answer goes to, so a reader in the publishers' account
// could have the server publish where it may not. Across accounts the answer
// can only come back to the asker.
var serverConf = template.Must(template.New("").Parse(`
accounts {
  SALLYPORT {
    jetstream: enabled
    users: [
      {nkey: {{.Setup}}},
      {nkey: {{.Host}}, permissions: {
        publish: {allow: ["sallyport.audit.{{.Name}}.>", "sallyport.transcript.{{.Name}}.>",
          "$JS.API.STREAM.INFO.SALLYPORT", "$JS.API.STREAM.MSG.GET.SALLYPORT"]},
        subscribe: {allow: ["_INBOX_host.>", "sallyport.receipt.{{.Name}}", "sallyport.approvals.{{.Name}}"]},
        allow_responses: {max: 1000, expires: "1m"}}}
    ]
    exports: [
      {stream: "sallyport.audit.>", accounts: [SIEM]},
      {service: "$JS.API.CONSUMER.INFO.SALLYPORT.siem", accounts: [SIEM]},
      {service: "$JS.API.CONSUMER.RESET.SALLYPORT.siem", accounts: [SIEM]},
      {service: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.siem", response_type: stream, accounts: [SIEM]},
      {service: "$JS.API.CONSUMER.INFO.SALLYPORT.recorder", accounts: [RECORDER]},
      {service: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.recorder", response_type: stream, accounts: [RECORDER]},
      {service: "$JS.ACK.SALLYPORT.recorder.>", accounts: [RECORDER]},
      {service: "sallyport.approvals.{{.Name}}", response_type: stream, accounts: [APPROVALS]},
      {service: "$JS.API.CONSUMER.INFO.SALLYPORT.notify", accounts: [NOTIFY]},
      {service: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.notify", response_type: stream, accounts: [NOTIFY]},
      {service: "$JS.ACK.SALLYPORT.notify.>", accounts: [NOTIFY]}
      {{- range .Sinks}}
      {service: "$JS.API.CONSUMER.INFO.SALLYPORT.{{.}}", accounts: [SINK]},
      {service: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.{{.}}", response_type: stream, accounts: [SINK]},
      {service: "$JS.ACK.SALLYPORT.{{.}}.>", accounts: [SINK]}
      {{- end}}
    ]
    imports: [{stream: {account: RECORDER, subject: "sallyport.receipt.>"}}]
  }
  RECORDER {
    users: [{nkey: {{.Recorder}}, permissions: {
      publish: {allow: ["sallyport.receipt.>", "$JS.ACK.SALLYPORT.recorder.>",
        "sallyport.api.CONSUMER.INFO.SALLYPORT.recorder", "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.recorder"]},
      subscribe: {allow: ["_INBOX_recorder.>"]}}}]
    exports: [{stream: "sallyport.receipt.>", accounts: [SALLYPORT]}]
    imports: [
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.INFO.SALLYPORT.recorder"}, to: "sallyport.api.CONSUMER.INFO.SALLYPORT.recorder"},
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.recorder"}, to: "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.recorder"},
      {service: {account: SALLYPORT, subject: "$JS.ACK.SALLYPORT.recorder.>"}}
    ]
  }
  APPROVALS {
    users: [{nkey: {{.Approvals}}, permissions: {
      publish: {allow: ["sallyport.approvals.{{.Name}}"]},
      subscribe: {allow: ["_INBOX_approvals.>"]}}}]
    imports: [{service: {account: SALLYPORT, subject: "sallyport.approvals.{{.Name}}"}}]
  }
  SIEM {
    users: [{nkey: {{.SIEM}}, permissions: {
      publish: {allow: ["sallyport.api.CONSUMER.INFO.SALLYPORT.siem", "sallyport.api.CONSUMER.RESET.SALLYPORT.siem",
        "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.siem"]},
      subscribe: {allow: ["_INBOX_siem.>", "sallyport.audit.>"]}}}]
    imports: [
      {stream: {account: SALLYPORT, subject: "sallyport.audit.>"}},
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.INFO.SALLYPORT.siem"}, to: "sallyport.api.CONSUMER.INFO.SALLYPORT.siem"},
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.RESET.SALLYPORT.siem"}, to: "sallyport.api.CONSUMER.RESET.SALLYPORT.siem"},
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.siem"}, to: "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.siem"}
    ]
  }
  NOTIFY {
    users: [{nkey: {{.Notify}}, permissions: {
      publish: {allow: ["$JS.ACK.SALLYPORT.notify.>",
        "sallyport.api.CONSUMER.INFO.SALLYPORT.notify", "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.notify"]},
      subscribe: {allow: ["_INBOX_notify.>"]}}}]
    imports: [
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.INFO.SALLYPORT.notify"}, to: "sallyport.api.CONSUMER.INFO.SALLYPORT.notify"},
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.notify"}, to: "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.notify"},
      {service: {account: SALLYPORT, subject: "$JS.ACK.SALLYPORT.notify.>"}}
    ]
  }
  SINK {
    users: [{nkey: {{.Sink}}, permissions: {
      publish: {allow: [{{range .Sinks}}"$JS.ACK.SALLYPORT.{{.}}.>", "sallyport.api.CONSUMER.INFO.SALLYPORT.{{.}}",
        "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.{{.}}", {{end}}"sallyport.nothing"]},
      subscribe: {allow: ["_INBOX_sink.>"]}}}]
    imports: [
      {{- range .Sinks}}
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.INFO.SALLYPORT.{{.}}"}, to: "sallyport.api.CONSUMER.INFO.SALLYPORT.{{.}}"},
      {service: {account: SALLYPORT, subject: "$JS.API.CONSUMER.MSG.NEXT.SALLYPORT.{{.}}"}, to: "sallyport.api.CONSUMER.MSG.NEXT.SALLYPORT.{{.}}"},
      {service: {account: SALLYPORT, subject: "$JS.ACK.SALLYPORT.{{.}}.>"}},
      {{- end}}
    ]
  }
}
`))

// ValidHost is what a host's name may be: one token of a NATS subject.
var ValidHost = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$`)

// StartServer starts an embedded server and makes, or checks, the stream and
// its consumers. Without a role's key a client gets nothing.
func StartServer(o Options) (*Server, error) {
	if o.Dir == "" || !ValidHost.MatchString(o.Host) {
		return nil, fmt.Errorf("jetstream: the embedded server needs a folder and a host name of letters, digits, - and _ (have %q, %q)", o.Dir, o.Host)
	}
	addr, port, err := listenAt(o.Listen)
	if err != nil {
		return nil, err
	}
	// The key that makes the stream lives as long as this process and is
	// written nowhere: nobody else may create, change or delete streams.
	setup, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	defer setup.Wipe()
	conf, err := configure(o, setup)
	if err != nil {
		return nil, err
	}
	opts := &server.Options{}
	if err := opts.ProcessConfigString(conf); err != nil {
		return nil, fmt.Errorf("jetstream: embedded server: %w", err)
	}
	opts.ServerName = "sallyport-" + o.Host
	opts.Host, opts.Port = addr, port
	opts.JetStream = true
	opts.StoreDir = filepath.Join(o.Dir, "store")
	opts.NoLog, opts.NoSigs = true, true
	opts.MaxPayload = maxPayload
	if err := os.MkdirAll(opts.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("jetstream: store: %w", err)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("jetstream: embedded server: %w", err)
	}
	srv.Start()
	s := &Server{srv: srv, dir: o.Dir}
	if !srv.ReadyForConnections(10 * time.Second) {
		s.Close()
		return nil, fmt.Errorf("jetstream: the embedded server did not start on %s: is the port taken? (evidence.nats.listen)", o.Listen)
	}
	if err := s.setup(setup, &o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

const maxPayload = 1 << 20 // bytes, headers included

func configure(o Options, setup nkeys.KeyPair) (string, error) {
	v := map[string]any{"Name": o.Host}
	var sinks []string
	for _, name := range o.Sinks {
		if !ValidHost.MatchString(name) {
			return "", fmt.Errorf("jetstream: sink %q: a name has letters, digits, - and _", name)
		}
		sinks = append(sinks, SinkConsumer(name))
	}
	v["Sinks"] = sinks
	var err error
	if v["Setup"], err = setup.PublicKey(); err != nil {
		return "", err
	}
	for field, role := range map[string]string{"Host": RoleHost, "Recorder": RoleRecorder, "SIEM": RoleSIEM, "Sink": RoleSink, "Approvals": RoleApprovals, "Notify": RoleNotify} {
		if v[field], err = userKey(o.Dir, role); err != nil {
			return "", err
		}
	}
	var b strings.Builder
	err = serverConf.Execute(&b, v)
	return b.String(), err
}

func (s *Server) setup(key nkeys.KeyPair, o *Options) error {
	pub, err := key.PublicKey()
	if err != nil {
		return err
	}
	nc, err := nats.Connect("", nats.InProcessServer(s.srv), nats.Nkey(pub, key.Sign))
	if err != nil {
		return fmt.Errorf("jetstream: embedded server: %w", err)
	}
	defer nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return Ensure(ctx, nc, Needs{}, o.AckWait, o.Sinks...)
}

// Connect returns an in-process connection as the host.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	return Connect("", SeedFile(s.dir, RoleHost), append(opts, nats.InProcessServer(s.srv))...)
}

// URL returns the address that other processes of this host dial.
func (s *Server) URL() string { return s.srv.ClientURL() }

// SeedFile returns where a role's seed stands.
func (s *Server) SeedFile(role string) string { return SeedFile(s.dir, role) }

// Close stops the server and waits until its store is shut.
func (s *Server) Close() {
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}

func listenAt(listen string) (string, int, error) {
	h, p, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("jetstream: listen %q: %w", listen, err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if ip := net.ParseIP(h); err != nil || ip == nil || !ip.IsLoopback() {
		return "", 0, fmt.Errorf("jetstream: listen %q: must be a loopback ip:port; for other hosts use a NATS of your own (evidence.nats.url)", listen)
	}
	if port == 0 {
		return h, server.RANDOM_PORT, nil
	}
	return h, int(port), nil
}
