package saml

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	fetchTimeout  = 5 * time.Second
	metadataFresh = 15 * time.Minute // used without asking
	retryInterval = 10 * time.Second // at least, after a fetch that failed
)

// source has a provider's metadata, and has it again when it is old.
type source struct {
	provider *Provider
	now      func() time.Time
	client   *http.Client // nil: it stands in the configuration
	fetches  singleflight.Group

	mu      sync.Mutex
	got     *described
	fetched time.Time // by the monotonic clock
	tried   time.Time
	failed  error // of the last try
}

func newSource(p *Provider, now func() time.Time) (*source, error) {
	s := &source{provider: p, now: now}
	if p.Metadata.URL == "" {
		var err error
		if s.got, err = describe(p.Metadata.Text, p, now()); err != nil {
			return nil, fmt.Errorf("provider %s: metadata: %w", p.Name, err)
		}
		return s, nil
	}
	s.client = &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext:     (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			TLSClientConfig: &tls.Config{RootCAs: p.Metadata.Roots, MinVersion: tls.VersionTLS12},
		},
	}
	return s, nil
}

// metadata returns what the provider says of itself. left is how long that may
// be used without asking again.
func (s *source) metadata(ctx context.Context) (d *described, left time.Duration, err error) {
	d, left, err = s.known()
	if s.client == nil || err == nil && left > 0 {
		return d, left, err
	}
	fetch := s.fetches.DoChan("", func() (any, error) { return nil, s.fetch() })
	select {
	case <-fetch:
	case <-ctx.Done():
	}
	grace := s.grace()
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.fetched)
	switch {
	case s.got != nil && age < grace:
		return s.got, min(grace-age, metadataFresh), s.over(s.got)
	case s.failed != nil:
		return nil, 0, fmt.Errorf("the metadata of %s can't be had (%w): see that its URL answers here", s.provider.Name, s.failed)
	}
	return nil, 0, fmt.Errorf("the metadata of %s did not come in time: see that its URL answers here", s.provider.Name)
}

// known returns what is there; left is 0 where it should be asked for again.
func (s *source) known() (*described, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.got == nil {
		return nil, 0, errors.New("no metadata yet")
	}
	left := metadataFresh
	if s.client != nil {
		left = min(left, s.grace()) - time.Since(s.fetched)
	}
	return s.got, max(left, 0), s.over(s.got)
}

// grace is how long metadata is used without its URL.
func (s *source) grace() time.Duration {
	if g := s.provider.Metadata.Grace; g > 0 {
		return g
	}
	return DefaultGrace
}

// over says that metadata holds no longer.
func (s *source) over(d *described) error {
	if !d.until.IsZero() && !s.now().Before(d.until) {
		return fmt.Errorf("the metadata of %s was valid until %s: have new metadata", s.provider.Name, d.until.UTC().Format(time.RFC3339))
	}
	return nil
}

// fetch replaces the metadata, unless that has just failed.
func (s *source) fetch() error {
	s.mu.Lock()
	if s.failed != nil && time.Since(s.tried) < retryInterval {
		defer s.mu.Unlock()
		return s.failed
	}
	s.mu.Unlock()
	d, err := s.download()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried, s.failed = time.Now(), err
	if err == nil {
		s.got, s.fetched = d, s.tried
	}
	return err
}

func (s *source) download() (*described, error) {
	resp, err := s.client.Get(s.provider.Metadata.URL)
	if err != nil {
		return nil, fmt.Errorf("%.200q", err.Error())
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %.40q", s.provider.Metadata.URL, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata+1))
	if err != nil {
		return nil, fmt.Errorf("%.200q", err.Error())
	}
	d, err := describe(b, s.provider, s.now())
	if err != nil {
		return nil, fmt.Errorf("it %w", err)
	}
	return d, nil
}
