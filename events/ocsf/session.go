package ocsf

import (
	"bytes"
	"path"
	"strconv"

	"sallyport.dev/sallyport/events"
)

// cutMark follows the two parts of a session when something was cut.
const cutMark = "\x00cut"

// sessionParts returns a session's objects, beginning with a comma, and its
// members of "unmapped", from its cache. Neither holds a NUL, so that one
// parts them.
func sessionParts(s *events.Session) (objects, unmapped []byte, cut bool) {
	p := s.Encoded.Load()
	if p == nil {
		b := encodeSession(s)
		p = &b
		if s != &nobody {
			s.Encoded.Store(p)
		}
	}
	objects, unmapped, _ = bytes.Cut(*p, []byte{0})
	unmapped, cut = bytes.CutSuffix(unmapped, []byte(cutMark))
	return objects, unmapped, cut
}

func encodeSession(s *events.Session) []byte {
	e := enc{b: []byte{' '}} // so that key writes a comma
	e.open("actor")
	if s.Actor != "" || s.ID == "" {
		e.open("user")
		e.str("name", name(s.Actor), capName)
		e.str("uid", s.Actor, capName)
		e.num("type_id", 4)
		e.word("type", "Service")
		e.close()
	}
	if s.ID != "" {
		e.open("session")
		e.str("uid", s.ID, capName)
		if !s.Opened.IsZero() {
			e.num("created_time", s.Opened.UnixMilli())
		}
		e.str("issuer", s.Issuer, capName)
		if !s.Expires.IsZero() {
			e.num("expiration_time", s.Expires.UnixMilli())
		}
		e.close()
	}
	if s.Process.PID != 0 {
		e.process(&s.Process)
	}
	e.str("app_name", s.Application, capName)
	e.close()
	e.open("src_endpoint")
	e.str("hostname", name(s.Host), capName)
	e.str("name", s.Workload, capName)
	e.close()
	if s.Destination.IsValid() {
		e.open("dst_endpoint")
		e.ip("ip", s.Destination.Addr())
		e.num("port", int64(s.Destination.Port()))
		e.str("svc_name", s.Resource, capName)
		e.close()
	}
	e.open("database")
	e.str("name", name(s.Database), capName)
	e.str("uid", s.Resource, capName)
	if s.Protocol == "postgres" || s.Protocol == "mysql" {
		e.num("type_id", 1)
		e.word("type", "Relational")
	} else {
		e.num("type_id", 0)
		e.word("type", "Unknown")
	}
	e.close()
	e.device(s)
	objects := e.b[1:]

	u := enc{b: []byte{'{'}, cut: e.cut}
	u.str("protocol", s.Protocol, capName)
	u.str("resource", s.Resource, capName)
	u.str("workload", s.Workload, capName)
	u.str("spiffe", s.SPIFFE, capName)
	u.str("actor", s.Actor, capName)
	u.str("principal", s.Principal, capName)
	u.list("actors", s.Actors)
	u.str("issuer", s.Issuer, capName)
	u.str("principal_issuer", s.PrincipalIssuer, capName)
	u.str("proof", s.Proof, capName)
	u.str("workload_proof", s.WorkloadProof.By, capName)
	u.list("workload_bound", s.WorkloadProof.Bound)
	u.str("actor_proof", s.ActorProof.By, capName)
	u.list("actor_bound", s.ActorProof.Bound)
	u.str("principal_proof", s.PrincipalProof.By, capName)
	u.list("principal_bound", s.PrincipalProof.Bound)
	if s.Pooled {
		u.yes("pooled")
	}
	if s.Unsynced {
		u.word("durability", "write")
	}
	if s.Account != "" {
		u.word("login", "broker")
	}
	u.str("database_user", s.Account, capName)
	u.str("database_role", s.Role, capName)
	u.str("claimed_user", s.User, capName)
	u.str("claimed_database", s.Database, capName)
	u.str("claimed_application", s.Application, capName)
	if s.Process.PID != 0 {
		u.num("gid", int64(s.Process.GID))
	}
	u.str("cgroup", s.Process.Cgroup, capName)
	if s.Reached.IsValid() && s.Reached != s.Destination {
		u.key("reached")
		u.b = append(s.Reached.AppendTo(append(u.b, '"')), '"')
	}
	u.str("path", s.Path, capName)
	u.tls("client_tls", &s.ClientTLS)
	if s.ClientClear {
		u.yes("client_clear")
	}
	if c := &s.ClientCertificate; c.SHA256 != "" {
		u.open("client_certificate")
		u.str("subject", c.Subject, capName)
		u.str("issuer", c.Issuer, capName)
		u.str("sha256", c.SHA256, capName)
		u.close()
	}
	if s.Undecoded {
		u.yes("undecoded")
	}
	b := append(objects, 0)
	b = append(b, u.b[1:]...)
	if u.cut {
		b = append(b, cutMark...)
	}
	return b
}

func (e *enc) device(s *events.Session) {
	e.open("device")
	e.str("hostname", name(s.Host), capName)
	e.num("type_id", 1)
	e.word("type", "Server")
	e.close()
}

// tls writes what OCSF's object of that name has, which its datastore class has
// no place for; nothing for a door in clear.
func (e *enc) tls(key string, t *events.TLS) {
	if t == nil || t.Version == "" && t.Name == "" {
		return
	}
	e.open(key)
	e.str("version", t.Version, capName)
	e.str("cipher", t.Cipher, capName)
	e.str("sni", t.Name, capName)
	if t.Verified {
		e.yes("verified")
	}
	e.close()
}

// process writes a process by facts of the kernel. Its uid is pid and start
// time: pids are used again.
func (e *enc) process(p *events.Process) {
	e.open("process")
	e.num("pid", int64(p.PID))
	e.key("uid")
	e.b = strconv.AppendUint(append(e.b, '"'), uint64(p.PID), 10)
	e.b = strconv.AppendUint(append(e.b, '-'), p.Start, 10)
	e.b = append(e.b, '"')
	e.str("name", p.Comm, capName)
	if p.Exe != "" {
		e.open("file")
		e.str("name", path.Base(p.Exe), capName)
		e.str("path", p.Exe, capText)
		e.num("type_id", 1)
		e.word("type", "Regular File")
		e.close()
	}
	e.open("user")
	e.key("uid")
	e.b = strconv.AppendUint(append(e.b, '"'), uint64(p.UID), 10)
	e.b = append(e.b, '"')
	e.close()
	e.close()
}
