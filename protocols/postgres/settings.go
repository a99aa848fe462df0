package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

// settings are those that the server reports and that alter what a text means,
// how its bytes are read, or whether it is understood at all.
type settings struct {
	clientEncoding, serverEncoding, conforming string
	version                                    string // as 15.8 (Debian 15.8-1), 19devel; "" when it tells none
}

func (s *settings) note(name, value string) {
	switch name {
	case "client_encoding":
		s.clientEncoding = strings.ToUpper(value)
	case "server_encoding":
		s.serverEncoding = strings.ToUpper(value)
	case "standard_conforming_strings":
		s.conforming = value
	case "server_version":
		s.version = value
	}
}

// major is that of the server that this session is with, and not only the
// catalog's: 0 for a version that is none.
func (s *settings) major() int {
	digits := strings.IndexFunc(s.version+".", func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(s.version[:digits])
	if err != nil {
		return 0
	}
	return n
}

// problem says why texts are not understood, nil when they are. SQL_ASCII at
// the client means no conversion, which is the same where the server has UTF8.
func (s *settings) problem() *unsafeSetting {
	p := unsafeSetting{remedy: "Use client_encoding UTF8 and standard_conforming_strings on."}
	m := s.major()
	switch {
	case s.version != "" && (m < query.OldestServer || m > query.NewestServer):
		p.why = fmt.Sprintf("the server is PostgreSQL %d: statements are understood for %d to %d", m, query.OldestServer, query.NewestServer)
		p.remedy = "Ask the administrator of this host for a release of sallyport that knows this server."
	case s.conforming != "on":
		p.why = "standard_conforming_strings is not on: literals may mean something else than they are understood to mean"
	case s.clientEncoding == "UTF8", s.clientEncoding == "SQL_ASCII" && s.serverEncoding == "UTF8":
		return nil
	default:
		p.why = "the session's client_encoding is not UTF8: texts may mean something else than they are understood to mean"
	}
	return &p
}
