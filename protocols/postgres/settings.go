package postgres

import "strings"

// settings are those that the server reports and that alter what a text means,
// or how its bytes are read.
type settings struct {
	clientEncoding, serverEncoding, conforming string
}

func (s *settings) note(name, value string) {
	switch name {
	case "client_encoding":
		s.clientEncoding = strings.ToUpper(value)
	case "server_encoding":
		s.serverEncoding = strings.ToUpper(value)
	case "standard_conforming_strings":
		s.conforming = value
	}
}

// problem says why texts are not understood, nil when they are. SQL_ASCII at
// the client means no conversion, which is the same where the server has UTF8.
func (s *settings) problem() *string {
	var why string
	switch {
	case s.conforming != "on":
		why = "standard_conforming_strings is not on: literals may mean something else than they are understood to mean"
	case s.clientEncoding == "UTF8", s.clientEncoding == "SQL_ASCII" && s.serverEncoding == "UTF8":
		return nil
	default:
		why = "the session's client_encoding is not UTF8: texts may mean something else than they are understood to mean"
	}
	return &why
}
