// Package rds makes the tokens that AWS RDS takes for a password (IAM database
// authentication): a presigned request, good for a quarter of an hour. Nothing
// is asked of AWS for one.
package rds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"sallyport.dev/sallyport/intercept/broker"
)

// Source makes tokens. It implements broker.Source.
type Source struct {
	Store    *broker.Store
	File     string // of the keys: AWS's own credentials file
	Profile  string // in it
	Endpoint string // host:port, as RDS names the database
	Region   string
	Now      func() time.Time
}

// life is how long a token is good for (RDS user guide, "IAM database
// authentication").
const life = "900"

// emptyHash is the SHA-256 of nothing: the request has no body.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// Credential implements broker.Source. Each is a new token; its version is that
// of the keys.
func (s *Source) Credential(ctx context.Context, user string, refused uint64) (broker.Credential, error) {
	text, version, err := s.Store.Get(ctx, s.File, refused)
	if err != nil {
		return broker.Credential{}, err
	}
	defer clear(text)
	keys, err := readKeys(text, s.Profile)
	if err != nil {
		return broker.Credential{}, fmt.Errorf("%s: %w", s.File, err)
	}
	token, err := s.token(ctx, user, keys)
	if err != nil {
		return broker.Credential{}, errors.New("sign a token: " + s.Endpoint + " can't be signed for")
	}
	return broker.Credential{Password: []byte(token), Version: version}, nil
}

// token presigns the request "connect" (Signature Version 4, query form).
func (s *Source) token(ctx context.Context, user string, keys aws.Credentials) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.Endpoint+"/", nil)
	if err != nil {
		return "", err
	}
	r.URL.RawQuery = url.Values{"Action": {"connect"}, "DBUser": {user}, "X-Amz-Expires": {life}}.Encode()
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, keys, r, emptyHash, "rds-db", s.Region, s.Now())
	return strings.TrimPrefix(signed, "https://"), err
}

// readKeys reads a profile of a credentials file: "[name]" and lines of "key = value".
func readKeys(text []byte, profile string) (aws.Credentials, error) {
	var c aws.Credentials
	if profile == "" {
		profile = "default"
	}
	in, found := false, false
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			in = string(bytes.TrimSpace(bytes.Trim(line, "[]"))) == profile
			found = found || in
			continue
		}
		key, value, ok := bytes.Cut(line, []byte("="))
		if !in || !ok {
			continue
		}
		v := string(bytes.TrimSpace(value))
		switch string(bytes.ToLower(bytes.TrimSpace(key))) {
		case "aws_access_key_id":
			c.AccessKeyID = v
		case "aws_secret_access_key":
			c.SecretAccessKey = v
		case "aws_session_token":
			c.SessionToken = v
		}
	}
	switch {
	case !found:
		return c, fmt.Errorf("no profile %q", profile)
	case c.AccessKeyID == "" || c.SecretAccessKey == "":
		return c, fmt.Errorf("profile %q: aws_access_key_id and aws_secret_access_key must be there", profile)
	}
	return c, nil
}

var _ broker.Source = (*Source)(nil)
