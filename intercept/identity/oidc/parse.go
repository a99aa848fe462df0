package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxToken = 64 << 10 // bytes
	maxDepth = 32       // of claims within claims
)

// jwt is a token that was read and not verified.
type jwt struct {
	raw    string
	header map[string]any
	claims map[string]any
}

// types of tokens that say who somebody is (RFC 8725, section 3.11; RFC 9068);
// "" is a token that does not say its type. A token for another use, such as
// a proof of possession or a log-out, is none.
var types = []string{"", "jwt", "at+jwt", "jose"}

// parse reads a compact JWS (RFC 7515, section 7.1). It is strict where two
// readers could read two things: base64url without stray bits, UTF-8, no name
// twice in an object. Keys, or links to keys, in the header are not looked at;
// extensions that must be understood (crit) are refused, since none is.
func parse(raw string) (*jwt, error) {
	if len(raw) > maxToken {
		return nil, fmt.Errorf("its token is longer than %d bytes", maxToken)
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, errors.New("its token is no signed JWT (three parts with dots between them)")
	}
	t := &jwt{raw: raw}
	var decoded [3][]byte
	for i, name := range []string{"header", "payload", "signature"} {
		var err error
		// The decoder passes over line breaks.
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(parts[i]); err != nil || strings.ContainsAny(parts[i], "\r\n") {
			return nil, fmt.Errorf("its token is no JWT: the %s is not base64url", name)
		}
	}
	var err error
	if t.header, err = object(decoded[0]); err != nil {
		return nil, fmt.Errorf("its token is no JWT: the header %w", err)
	}
	if t.claims, err = object(decoded[1]); err != nil {
		return nil, fmt.Errorf("its token is no JWT: the payload %w", err)
	}
	if _, has := t.header["crit"]; has {
		return nil, errors.New("its token has extensions that must be understood (crit), which is not supported")
	}
	if _, has := t.header["b64"]; has {
		return nil, errors.New("its token has an unencoded payload (b64), which is not supported")
	}
	typ, ok := t.header["typ"].(string)
	if _, has := t.header["typ"]; has && !ok || !slices.Contains(types, strings.TrimPrefix(strings.ToLower(typ), "application/")) {
		return nil, errors.New("its token is of a type (typ) for another use: present an access token or an ID token")
	}
	return t, nil
}

// object reads one JSON object. A name that stands twice in an object, and
// objects nested too deep, are errors; numbers are float64.
func object(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	v, err := value(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is more than one JSON object")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("is no JSON object")
	}
	return m, nil
}

var errJSON = errors.New("is no JSON")

func value(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nests deeper than %d", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, errJSON
	}
	switch t {
	case json.Delim('{'):
		m := map[string]any{}
		for d.More() {
			k, err := d.Token()
			if err != nil {
				return nil, errJSON
			}
			name, ok := k.(string)
			if !ok {
				return nil, errJSON
			}
			if _, twice := m[name]; twice {
				return nil, errors.New("has a name twice")
			}
			if m[name], err = value(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return m, asJSON(err)
	case json.Delim('['):
		l := []any{}
		for d.More() {
			v, err := value(d, depth+1)
			if err != nil {
				return nil, err
			}
			l = append(l, v)
		}
		_, err := d.Token()
		return l, asJSON(err)
	}
	return t, nil
}

func asJSON(err error) error {
	if err != nil {
		return errJSON
	}
	return nil
}
