package events

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Session is what all events of one connection share. It is filled before
// the first event that carries it and not changed afterwards, so that it can
// be read without a lock. Where a connection serves many people, events carry
// copies with different principals.
type Session struct {
	ID          string         // unique; also put into the server's own log
	Host        string         // the interceptor's name in the fleet
	Protocol    string         // "postgres"; "" before it is known
	Resource    string         // the resource's name in sallyport.yaml
	Destination netip.AddrPort // that the client asked for; zero for a unix socket
	Reached     netip.AddrPort // where that would have led it without the passage; zero where nobody can tell
	Path        string         // of the unix socket that it asked for
	Opened      time.Time

	// Who, from proofs that the agent cannot choose.
	Workload        string   // the workload's name
	SPIFFE          string   // its SPIFFE ID, "" if none was attested
	Actor           string   // token subject of the agent itself
	Principal       string   // the human or account it acts for, "" if none
	Actors          []string // RFC 8693 act chain, current actor first
	Issuer          string   // of the actor's token
	PrincipalIssuer string   // of the token that names the principal
	Proof           string   // how it was proved, e.g. "oidc+pidfd": the weakest of the three
	WorkloadProof   Proved
	ActorProof      Proved
	PrincipalProof  Proved
	Expires         time.Time // of the proof
	// Pooled: the workload serves many people, and did not say for whom this is.
	Pooled bool

	Process Process

	// Whom the passage logged in as in the client's place; "" where the client
	// logged in itself.
	Account string // database user, or where it comes from
	Role    string // that its session runs as, "" for the user itself

	// What the client says of itself; proves nothing.
	User        string // database user
	Database    string
	Application string

	// How its doors are secured. The server's is known once it is open, when
	// events have been told already.
	ClientTLS   TLS
	ClientClear bool // in clear, though TLS was offered
	// ClientCertificate is what the client showed, and has the key of: nobody
	// verified who vouches for it, and it says nothing of who the client is.
	ClientCertificate Certificate
	// Undecoded: the client's TLS is with the server itself. Nothing of what was
	// said is known, nor could anything of it be refused or masked.
	Undecoded bool
	ServerTLS atomic.Pointer[TLS]
	// ServerFrom is the passage's own address at the server, as the server's log
	// has it; nil until that door is open, and of a unix socket.
	ServerFrom atomic.Pointer[netip.AddrPort]

	// Unsynced: its resource asks for no more than that a record survives the
	// process: nobody waits for the disk.
	Unsynced bool

	// Encoded is for the encoder alone: the session's part of an event,
	// encoded once.
	Encoded atomic.Pointer[[]byte]
}

// Copy returns a session for later events, to be filled with another principal.
func (s *Session) Copy() *Session {
	c := &Session{
		ID: s.ID, Host: s.Host, Protocol: s.Protocol, Resource: s.Resource, Destination: s.Destination, Reached: s.Reached,
		Path: s.Path, Opened: s.Opened, Workload: s.Workload, SPIFFE: s.SPIFFE, Actor: s.Actor, Principal: s.Principal,
		Actors: s.Actors, Issuer: s.Issuer, PrincipalIssuer: s.PrincipalIssuer, Proof: s.Proof, WorkloadProof: s.WorkloadProof,
		ActorProof: s.ActorProof, PrincipalProof: s.PrincipalProof, Expires: s.Expires, Pooled: s.Pooled, Process: s.Process,
		Account: s.Account, Role: s.Role, User: s.User, Database: s.Database, Application: s.Application,
		ClientTLS: s.ClientTLS, ClientClear: s.ClientClear, ClientCertificate: s.ClientCertificate, Undecoded: s.Undecoded, Unsynced: s.Unsynced,
	}
	c.ServerTLS.Store(s.ServerTLS.Load())
	c.ServerFrom.Store(s.ServerFrom.Load())
	return c
}

// Proved is how a name was proved; zero for a name that is not there.
type Proved struct {
	By    string   `json:"by"`              // as intercept names it: "oidc+pidfd", "spiffe", ...
	Bound []string `json:"bound,omitempty"` // what ties it to the connection: "subjects", "pidfd", ...
}

// Certificate names one; zero for none.
type Certificate struct {
	Subject string `json:"subject,omitempty"` // RFC 2253, as the certificate says
	Issuer  string `json:"issuer,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of the whole, hex
}

// Process names a process by facts of the kernel.
type Process struct {
	PID    uint32 // thread group id in the initial pid namespace
	Start  uint64 // start time, ns since boot
	UID    uint32
	GID    uint32
	Exe    string // path as the kernel gives it
	Cgroup string // path below the cgroup2 root
	Comm   string // chosen by the process; proves nothing
	// Workload is the one that the process was taken for, without a proof; ""
	// where that is not known, and in a session, which has a proved one.
	Workload string
}

// Field is one protected field of a relation.
type Field struct{ Schema, Relation, Column string }

// String returns schema.relation.column.
func (f Field) String() string { return f.Schema + "." + f.Relation + "." + f.Column }

// Detection tells how often detectors found something of a kind, by its form, in
// what went out, where it was hidden. It holds nothing of a value.
type Detection struct {
	Column int   // of the result, from 1; 0: in messages, or in columns that are not told apart
	Field  Field // that the column is, zero where it is none or is not known
	Kind   string
	Count  int64
}

// Digest is a keyed hash of a value that must not stand in an event: the
// first 8 bytes of HMAC-SHA-256 under the host's literal key.
type Digest [8]byte

// Event is one thing that happened. The journal encodes it during Append and
// keeps no reference to it or to its slices, so that a caller can reuse it.
// Fields that do not apply to the Kind are zero.
type Event struct {
	Kind    Kind
	Time    time.Time
	Session *Session // nil for events of the host itself
	// Unplaced: the passage is one that nothing leads to and that can be gone
	// round (sallyport proxy): nothing is proved of the process that connected.
	Unplaced bool

	Number      uint64   // the statement's ordinal in the session, from 1
	Command     string   // "SELECT", "COPY", ...; "" if it was not understood
	Normalized  string   // the statement without its literals
	Fingerprint uint64   // of Normalized
	Literals    []Digest // of literals and binds, in order
	Writes      bool     // the statement may change data
	// Later: nothing is shown of the statement before somebody has waited for its
	// record, which may until then wait for the outcome, to tell it too.
	Later bool

	Verdict Verdict
	Rules   []string // the rules that decided
	Reason  string
	Remedy  string
	Code    string   // the protocol's own error code given to the client
	Objects []string // what the statement touches, schema.relation
	Masked  []Field
	Masks   []string // what each of Masked is shown as: "partial", ...

	Revealed      []Field // protected fields that are shown in clear
	Justification string  // why that is needed, in the client's words

	// Approvals are the requests for approval that it runs under, or was refused
	// for want of.
	Approvals []string
	Approval  *Approval // of ApprovalRequest and ApprovalDecision, and of an Alarm about one

	// What rules that only observe would have done besides.
	Would         Would
	WouldRules    []string
	WouldReason   string   // of WouldBlock and WouldHold
	WouldMasked   []Field  // that went out as they are stored
	WouldFiltered []string // relations, schema.relation

	// Whose rows went out: of Subjects, and of what tells an outcome. An outcome
	// has the last of its statement's, and how many all its events name.
	Subjects []Subject
	Named    int64
	// Untold is why it is not known of all rows whose they are, of Statement and
	// Response; "" where it is, and where policy does not ask.
	Untold string

	// Outcome, of Response and SessionClose, and of a Statement that was answered
	// before it was on the record: it has no Response.
	Status   string        // "ok", "error", "interrupted", "skipped", ...
	Rows     int64         // rows that went out to the client, or were changed
	Bytes    int64         // response bytes that went out to the client
	BytesIn  int64         // bytes that came from the client, of a SessionClose that is Undecoded
	Duration time.Duration // from the request's arrival to its last answer
	Recorded int64         // bytes of the result that the transcript holds
	Hash     [32]byte      // SHA-256 of the whole result as the client saw it
	Detected []Detection   // what was found and hidden in the result

	// Of events without a session, or beside it.
	Message     string
	Process     *Process
	Source      netip.AddrPort
	Destination netip.AddrPort
	Transport   string // "tcp", "udp", ...
}

// Approval is a step in the life of a request for approval. It holds no data: what
// is to be approved stands in the events of the statement.
type Approval struct {
	ID string
	// Step is "requested", "seen", "approved", "denied", "expired", "withdrawn",
	// "revoked" or "consumed"; of who is told "notified" or "answered"; of emergency
	// access "opened", "used", "closed", "expired", "unreviewed" or "reviewed".
	Step   string
	Rule   string
	Digest string // of what is to be approved: statement, parameters, who and where; hex
	Policy string // of the rules that it was asked under; hex
	Covers string // "statement", "shape" or "rule"; "break-glass" of emergency access
	Until  time.Time
	Uses   int // that are left; 0: any number; of emergency access: that ran under it
	Lacks  int // approvals that are still wanted, of "requested", "seen" and "approved"

	// Of the requester.
	Workload  string
	Actor     string
	Principal string
	Resource  string
	Database  string
	Session   string

	// Of a decision, and how it was proved.
	Approver string
	Issuer   string
	Proof    string
	Why      string
}

// ChunkKind says what a Chunk of a transcript holds.
type ChunkKind uint8

const (
	_              ChunkKind = iota
	ChunkStatement           // the exact statement, as the client sent it
	ChunkBinds               // bound parameters, in the protocol's own form
	ChunkResult              // bytes of the answer, as the client is given them
	ChunkInput               // bytes of the client's own data stream (COPY FROM)
	ChunkKey                 // the key of the session's sealed chunks, encrypted: see package seal
)

// Sealed marks the kind of a chunk whose Data is encrypted, which makes it longer by
// SealedRoom bytes: see package seal.
const (
	Sealed     ChunkKind = 1 << 7
	SealedRoom           = 12 + 16 // a nonce and a tag
)

// Chunk is a piece of a session's transcript. The journal copies Data.
type Chunk struct {
	Session *Session
	Number  uint64 // the statement's ordinal in the session
	Kind    ChunkKind
	Time    time.Time
	Data    []byte
	// Later: it may wait for the next chunk of the session, to share its record.
	// What goes on the record before anything is shown, and never alone, sets it.
	Later bool
}

// Shown returns how many bytes of an answer a chunk holds.
func (c *Chunk) Shown() int {
	switch c.Kind {
	case ChunkResult:
		return len(c.Data)
	case ChunkResult | Sealed:
		return max(0, len(c.Data)-SealedRoom)
	}
	return 0
}
