package ocsf

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
)

// View is an event as its readers need it. Fields that the event does not
// have are zero.
type View struct {
	UID  string    `json:"uid"`
	Seq  uint64    `json:"seq"`
	Kind string    `json:"kind"` // as events.Kind names it
	Time time.Time `json:"time"`
	Host string    `json:"host"`

	Session           string             `json:"session,omitempty"`
	Opened            time.Time          `json:"opened,omitzero"`
	Protocol          string             `json:"protocol,omitempty"`
	Resource          string             `json:"resource,omitempty"`
	Destination       netip.AddrPort     `json:"destination,omitzero"`
	Reached           netip.AddrPort     `json:"reached,omitzero"` // unless it is the destination
	Path              string             `json:"path,omitempty"`   // of a unix socket
	Workload          string             `json:"workload,omitempty"`
	SPIFFE            string             `json:"spiffe,omitempty"`
	Actor             string             `json:"actor,omitempty"`
	Principal         string             `json:"principal,omitempty"`
	Actors            []string           `json:"actors,omitempty"`
	Issuer            string             `json:"issuer,omitempty"`
	Vouches           string             `json:"principal_issuer,omitempty"`
	Proof             string             `json:"proof,omitempty"` // the weakest of the three
	OfWorkload        events.Proved      `json:"workload_proof,omitzero"`
	OfActor           events.Proved      `json:"actor_proof,omitzero"`
	OfPrincipal       events.Proved      `json:"principal_proof,omitzero"`
	Pooled            bool               `json:"pooled,omitempty"` // it serves many people, and named none
	Expires           time.Time          `json:"expires,omitzero"`
	Account           string             `json:"account,omitempty"` // that the passage logged in as; "" where the client did itself
	Role              string             `json:"role,omitempty"`    // that its session runs as
	User              string             `json:"user,omitempty"`    // claimed, as are the next two
	Database          string             `json:"database,omitempty"`
	Application       string             `json:"application,omitempty"`
	ClientTLS         events.TLS         `json:"client_tls,omitzero"`
	ClientClear       bool               `json:"client_clear,omitempty"` // though TLS was offered
	ServerTLS         events.TLS         `json:"server_tls,omitzero"`
	ServerFrom        netip.AddrPort     `json:"server_from,omitzero"`
	ClientCertificate events.Certificate `json:"client_certificate,omitzero"`
	Undecoded         bool               `json:"undecoded,omitempty"` // its TLS is with the server itself
	Process           events.Process     `json:"process,omitzero"`    // of the session, or of a bypass

	Number      uint64   `json:"statement,omitempty"`
	Command     string   `json:"command,omitempty"`
	Normalized  string   `json:"normalized,omitempty"`
	Fingerprint string   `json:"fingerprint,omitempty"` // hex
	Literals    []string `json:"literals,omitempty"`    // hex
	Writes      bool     `json:"writes,omitempty"`
	Verdict     string   `json:"verdict,omitempty"`
	Rules       []string `json:"rules,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	Remedy      string   `json:"remedy,omitempty"`
	Code        string   `json:"code,omitempty"`
	Objects     []string `json:"objects,omitempty"`
	Masked      []string `json:"masked,omitempty"`
	Masks       []string `json:"masks,omitempty"` // of Masked, in its order

	Approvals []string  `json:"approvals,omitempty"` // that it runs under, or needs
	Approval  *Approval `json:"approval,omitempty"`  // a step of one

	Revealed      []string `json:"revealed,omitempty"`
	Justification string   `json:"justification,omitempty"`

	Would         string   `json:"would,omitempty"` // as events.Would names it
	WouldRules    []string `json:"would_rules,omitempty"`
	WouldReason   string   `json:"would_reason,omitempty"`
	WouldMasked   []string `json:"would_masked,omitempty"`
	WouldFiltered []string `json:"would_filtered,omitempty"`

	Subjects []string `json:"subjects,omitempty"`         // as events.ParseSubject reads them
	Named    int64    `json:"subjects_named,omitempty"`   // in all events of the statement
	Untold   string   `json:"subjects_unknown,omitempty"` // why not all are known

	Status   string        `json:"status,omitempty"` // "ok", "error", "interrupted", ...
	Rows     int64         `json:"rows,omitempty"`
	Bytes    int64         `json:"bytes,omitempty"`
	BytesIn  int64         `json:"bytes_in,omitempty"`
	Recorded int64         `json:"recorded,omitempty"`
	Duration time.Duration `json:"duration,omitempty"` // ns
	Hash     string        `json:"result_sha256,omitempty"`
	Detected []Detection   `json:"detected,omitempty"`

	Message   string         `json:"message,omitempty"`
	Source    netip.AddrPort `json:"source,omitzero"`
	Transport string         `json:"transport,omitempty"`
	Truncated bool           `json:"truncated,omitempty"`
}

// Approval is an events.Approval as it was written.
type Approval struct {
	ID        string    `json:"id"`
	Step      string    `json:"step"`
	Rule      string    `json:"rule"`
	Digest    string    `json:"digest"`
	Policy    string    `json:"policy,omitempty"`
	Covers    string    `json:"covers,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	Uses      int       `json:"uses"`
	Lacks     int       `json:"lacks,omitempty"`
	Workload  string    `json:"workload,omitempty"`
	Actor     string    `json:"actor,omitempty"`
	Principal string    `json:"principal,omitempty"`
	Resource  string    `json:"resource,omitempty"`
	Database  string    `json:"database,omitempty"`
	Session   string    `json:"session,omitempty"`
	Approver  string    `json:"approver,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Proof     string    `json:"proof,omitempty"`
	Why       string    `json:"why,omitempty"`
}

// Detection is an events.Detection as it was written.
type Detection struct {
	Column int    `json:"column"`
	Field  string `json:"field,omitempty"` // schema.relation.column
	Kind   string `json:"kind"`
	Count  int64  `json:"count"`
}

// String says it in words: "ssn x3 in clinic.notes.body", "email x1 in column 2".
func (d Detection) String() string {
	where := d.Field
	switch {
	case where != "":
	case d.Column > 0:
		where = fmt.Sprintf("column %d", d.Column)
	default:
		where = "messages or columns"
	}
	return fmt.Sprintf("%s x%d in %s", d.Kind, d.Count, where)
}

type endpoint struct {
	Hostname string     `json:"hostname"`
	IP       netip.Addr `json:"ip"`
	Port     uint16     `json:"port"`
}

func (e endpoint) addr() netip.AddrPort {
	if !e.IP.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(e.IP, e.Port)
}

type process struct {
	PID  uint32 `json:"pid"`
	UID  string `json:"uid"`
	Name string `json:"name"`
	File struct {
		Path string `json:"path"`
	} `json:"file"`
	User struct {
		UID string `json:"uid"`
	} `json:"user"`
}

func (p *process) event(cgroup string) events.Process {
	_, s, _ := strings.Cut(p.UID, "-")
	start, _ := strconv.ParseUint(s, 10, 64)
	uid, _ := strconv.ParseUint(p.User.UID, 10, 32)
	return events.Process{PID: p.PID, Start: start, UID: uint32(uid), Exe: p.File.Path, Comm: p.Name, Cgroup: cgroup}
}

type objects struct {
	Actor *struct {
		Session struct {
			UID     string `json:"uid"`
			Created int64  `json:"created_time"`
			Expires int64  `json:"expiration_time"`
		} `json:"session"`
		Process *process `json:"process"`
	} `json:"actor"`
	Src endpoint `json:"src_endpoint"`
	Dst endpoint `json:"dst_endpoint"`
}

type wire struct {
	objects
	ClassUID     int64     `json:"class_uid"`
	Time         time.Time `json:"time_dt"`
	StatusCode   string    `json:"status_code"`
	StatusDetail string    `json:"status_detail"`
	Message      string    `json:"message"`
	Query        struct {
		Text string `json:"query_string"`
	} `json:"query_info"`
	Evidences  []objects `json:"evidences"`
	Connection struct {
		Protocol string `json:"protocol_name"`
	} `json:"connection_info"`
	Device   endpoint `json:"device"`
	Metadata struct {
		Product struct {
			Name string `json:"name"`
		} `json:"product"`
		UID         string `json:"uid"`
		Sequence    uint64 `json:"sequence"`
		EventCode   string `json:"event_code"`
		Correlation string `json:"correlation_uid"`
		Truncated   bool   `json:"is_truncated"`
	} `json:"metadata"`
	U struct {
		Protocol          string             `json:"protocol"`
		Resource          string             `json:"resource"`
		Workload          string             `json:"workload"`
		SPIFFE            string             `json:"spiffe"`
		Actor             string             `json:"actor"`
		Principal         string             `json:"principal"`
		Actors            []string           `json:"actors"`
		Issuer            string             `json:"issuer"`
		Vouches           string             `json:"principal_issuer"`
		Proof             string             `json:"proof"`
		ByWorkload        string             `json:"workload_proof"`
		OfWorkload        []string           `json:"workload_bound"`
		ByActor           string             `json:"actor_proof"`
		OfActor           []string           `json:"actor_bound"`
		ByPrincipal       string             `json:"principal_proof"`
		OfPrincipal       []string           `json:"principal_bound"`
		Pooled            bool               `json:"pooled"`
		Account           string             `json:"database_user"`
		Role              string             `json:"database_role"`
		User              string             `json:"claimed_user"`
		Database          string             `json:"claimed_database"`
		Application       string             `json:"claimed_application"`
		Cgroup            string             `json:"cgroup"`
		GID               uint32             `json:"gid"`
		Statement         uint64             `json:"statement"`
		Command           string             `json:"command"`
		Fingerprint       string             `json:"fingerprint"`
		Literals          []string           `json:"literals"`
		Writes            bool               `json:"writes"`
		Verdict           string             `json:"verdict"`
		Rules             []string           `json:"rules"`
		Objects           []string           `json:"objects"`
		Masked            []string           `json:"masked"`
		Masks             []string           `json:"masks"`
		Revealed          []string           `json:"revealed"`
		Justification     string             `json:"justification"`
		Would             string             `json:"would"`
		WouldRules        []string           `json:"would_rules"`
		WouldReason       string             `json:"would_reason"`
		WouldMasked       []string           `json:"would_masked"`
		WouldFiltered     []string           `json:"would_filtered"`
		Subjects          []string           `json:"subjects"`
		Named             int64              `json:"subjects_named"`
		Untold            string             `json:"subjects_unknown"`
		Remedy            string             `json:"remedy"`
		Approvals         []string           `json:"approvals"`
		Approval          *Approval          `json:"approval"`
		Outcome           string             `json:"outcome"`
		Rows              int64              `json:"rows"`
		Bytes             int64              `json:"bytes"`
		BytesIn           int64              `json:"bytes_in"`
		Recorded          int64              `json:"recorded"`
		Duration          time.Duration      `json:"duration_ns"`
		Hash              string             `json:"result_sha256"`
		Detected          []Detection        `json:"detected"`
		Process           *process           `json:"process"`
		ProcCgroup        string             `json:"process_cgroup"`
		Source            netip.AddrPort     `json:"source"`
		Target            netip.AddrPort     `json:"target"`
		Reached           netip.AddrPort     `json:"reached"`
		Path              string             `json:"path"`
		ClientTLS         events.TLS         `json:"client_tls"`
		ClientClear       bool               `json:"client_clear"`
		ClientCertificate events.Certificate `json:"client_certificate"`
		Undecoded         bool               `json:"undecoded"`
		ServerTLS         events.TLS         `json:"server_tls"`
		ServerFrom        netip.AddrPort     `json:"server_from"`
		Transport         string             `json:"transport"`
	} `json:"unmapped"`
}

// Decode reads an event that Append wrote. An object of somebody else is an
// error; members that are not known are passed over.
func Decode(b []byte) (View, error) {
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return View{}, fmt.Errorf("ocsf: %w", err)
	}
	m := &w.Metadata
	if m.Product.Name != "sallyport" || m.EventCode == "" {
		return View{}, fmt.Errorf("ocsf: not an event of sallyport (metadata.product.name %q, event_code %q)", m.Product.Name, m.EventCode)
	}
	o := &w.objects
	if len(w.Evidences) > 0 {
		o = &w.Evidences[0]
	}
	u := &w.U
	v := View{
		UID: m.UID, Seq: m.Sequence, Kind: m.EventCode, Time: w.Time, Host: w.Device.Hostname,
		Session: m.Correlation, Protocol: u.Protocol, Resource: u.Resource, Destination: o.Dst.addr(),
		Reached: u.Reached, Path: u.Path, ClientTLS: u.ClientTLS, ClientClear: u.ClientClear, ServerTLS: u.ServerTLS, ServerFrom: u.ServerFrom,
		ClientCertificate: u.ClientCertificate, Undecoded: u.Undecoded,
		Workload: u.Workload, SPIFFE: u.SPIFFE, Actor: u.Actor, Principal: u.Principal, Actors: u.Actors,
		Issuer: u.Issuer, Vouches: u.Vouches, OfWorkload: events.Proved{By: u.ByWorkload, Bound: u.OfWorkload},
		OfActor: events.Proved{By: u.ByActor, Bound: u.OfActor}, OfPrincipal: events.Proved{By: u.ByPrincipal, Bound: u.OfPrincipal},
		Proof: u.Proof, Pooled: u.Pooled, Account: u.Account, Role: u.Role, User: u.User, Database: u.Database, Application: u.Application,
		Number: u.Statement, Command: u.Command, Normalized: w.Query.Text, Fingerprint: u.Fingerprint,
		Literals: u.Literals, Writes: u.Writes, Verdict: u.Verdict, Rules: u.Rules, Reason: w.StatusDetail,
		Remedy: u.Remedy, Code: w.StatusCode, Objects: u.Objects, Masked: u.Masked, Masks: u.Masks,
		Approvals: u.Approvals, Approval: u.Approval, Revealed: u.Revealed, Justification: u.Justification, Subjects: u.Subjects, Named: u.Named, Untold: u.Untold,
		Would: u.Would, WouldRules: u.WouldRules, WouldReason: u.WouldReason, WouldMasked: u.WouldMasked, WouldFiltered: u.WouldFiltered,
		Status: u.Outcome, Rows: u.Rows, Bytes: u.Bytes, BytesIn: u.BytesIn, Recorded: u.Recorded, Duration: u.Duration, Hash: u.Hash, Detected: u.Detected,
		Message: w.Message, Source: u.Source, Transport: u.Transport, Truncated: m.Truncated,
	}
	if a := o.Actor; a != nil {
		v.Opened, v.Expires = millis(a.Session.Created), millis(a.Session.Expires)
		if a.Process != nil {
			v.Process = a.Process.event(u.Cgroup)
			v.Process.GID = u.GID
		}
	}
	if u.Process != nil {
		v.Process = u.Process.event(u.ProcCgroup)
	}
	if u.Target.IsValid() {
		v.Destination = u.Target
	}
	if w.ClassUID == network.uid {
		v.Source, v.Transport = w.Src.addr(), w.Connection.Protocol
		v.Process.Cgroup = u.ProcCgroup
	}
	return v, nil
}

func millis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Revive returns the session that an event belongs to, for events that are
// written after its process died.
func Revive(payload []byte) (*events.Session, error) {
	v, err := Decode(payload)
	if err != nil {
		return nil, err
	}
	if v.Session == "" {
		return nil, fmt.Errorf("ocsf: event %s belongs to no session", v.UID)
	}
	s := &events.Session{
		ID: v.Session, Host: v.Host, Protocol: v.Protocol, Resource: v.Resource, Destination: v.Destination,
		Reached: v.Reached, Path: v.Path, ClientTLS: v.ClientTLS, ClientClear: v.ClientClear, ClientCertificate: v.ClientCertificate, Undecoded: v.Undecoded,
		Opened: v.Opened, Workload: v.Workload, Actor: v.Actor, Principal: v.Principal, Actors: v.Actors,
		SPIFFE: v.SPIFFE, Issuer: v.Issuer, PrincipalIssuer: v.Vouches, Proof: v.Proof,
		WorkloadProof: v.OfWorkload, ActorProof: v.OfActor, PrincipalProof: v.OfPrincipal, Expires: v.Expires, Pooled: v.Pooled, Process: v.Process,
		Account: v.Account, Role: v.Role, User: v.User, Database: v.Database, Application: v.Application,
	}
	if v.ServerTLS.Version != "" {
		s.ServerTLS.Store(&v.ServerTLS)
	}
	if v.ServerFrom.IsValid() {
		s.ServerFrom.Store(&v.ServerFrom)
	}
	return s, nil
}
