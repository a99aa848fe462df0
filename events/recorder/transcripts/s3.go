package transcripts

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"sallyport.dev/sallyport/internal/loopback"
)

// S3 says where S3-compatible storage is.
type S3 struct {
	// Endpoint is its URL, https; http only on a loopback address.
	Endpoint string `yaml:"endpoint"`
	Region   string `yaml:"region"`
	Bucket   string `yaml:"bucket"` // which must be there
	Prefix   string `yaml:"prefix"` // of the objects' names, such as sallyport/
	// Credentials is a file of the form that the AWS tools have (a profile with
	// aws_access_key_id and aws_secret_access_key). Empty: AWS_ACCESS_KEY_ID and
	// AWS_SECRET_ACCESS_KEY of the environment.
	Credentials string `yaml:"credentials_file"`
	Profile     string `yaml:"profile"`
	CA          string `yaml:"ca_file"` // of the endpoint's certificate, PEM; empty: the system's
}

// Bucket is a Store in a bucket of S3-compatible storage. Requests are signed
// (version 4) with the SHA-256 of what they carry, and address the bucket by path.
type Bucket struct {
	client         *minio.Client
	bucket, prefix string
}

// OpenS3 returns the store, whose bucket must be there.
func OpenS3(ctx context.Context, s S3) (*Bucket, error) {
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("transcripts: s3 endpoint %q: must be a URL such as https://s3.example.org", s.Endpoint)
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback.Host(u.Hostname())) {
		return nil, fmt.Errorf("transcripts: s3 endpoint %q: must be https (http is for a loopback address)", s.Endpoint)
	}
	if s.Bucket == "" {
		return nil, errors.New("transcripts: s3: name the bucket")
	}
	creds, err := s.credentials()
	if err != nil {
		return nil, err
	}
	transport, err := s.transport()
	if err != nil {
		return nil, err
	}
	client, err := minio.New(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Region: s.Region, BucketLookup: minio.BucketLookupPath, Transport: transport,
		MaxRetries: 3, // the recorder tries again, and says so
	})
	if err != nil {
		return nil, fmt.Errorf("transcripts: s3: %w", err)
	}
	there, err := client.BucketExists(ctx, s.Bucket)
	if err == nil && !there {
		err = errors.New("it is not there: make it first")
	}
	if err != nil {
		return nil, fmt.Errorf("transcripts: s3 bucket %s: %w", s.Bucket, err)
	}
	return &Bucket{client, s.Bucket, s.Prefix}, nil
}

func (s *S3) credentials() (*credentials.Credentials, error) {
	if s.Credentials == "" {
		if os.Getenv("AWS_ACCESS_KEY_ID") == "" || os.Getenv("AWS_SECRET_ACCESS_KEY") == "" {
			return nil, errors.New("transcripts: s3: no credentials: name credentials_file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
		}
		return credentials.NewEnvAWS(), nil
	}
	st, err := os.Stat(s.Credentials)
	if err != nil {
		return nil, fmt.Errorf("transcripts: s3: credentials_file: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("transcripts: s3: credentials_file %s: others may read it: chmod 600", s.Credentials)
	}
	c := credentials.NewFileAWSCredentials(s.Credentials, s.Profile)
	if v, err := c.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, fmt.Errorf("transcripts: s3: credentials_file %s has no keys for this profile", s.Credentials) // an error could quote them
	}
	return c, nil
}

func (s *S3) transport() (*http.Transport, error) {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("transcripts: s3: no transport")
	}
	t = t.Clone()
	t.ResponseHeaderTimeout = time.Minute
	t.DisableCompression = true
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("transcripts: s3: ca_file: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("transcripts: s3: ca_file %s holds no certificate (PEM)", s.CA)
	}
	return t, nil
}

func (b *Bucket) key(name string) string { return b.prefix + name[:2] + "/" + name }

// Put implements Store: one request, whole or not at all.
func (b *Bucket) Put(ctx context.Context, name string, body []byte) error {
	if err := checkPut(name, body); err != nil {
		return err
	}
	_, err := b.client.PutObject(ctx, b.bucket, b.key(name), bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{
		ContentType: "application/octet-stream", DisableMultipart: true,
		DisableContentSha256: false, SendContentMd5: true, // which object lock asks for
	})
	if err != nil {
		return fmt.Errorf("transcripts: s3: %w", err)
	}
	return nil
}

// Get implements Store.
func (b *Bucket) Get(ctx context.Context, name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	o, err := b.client.GetObject(ctx, b.bucket, b.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, fmt.Errorf("transcripts: s3: %w", err)
	}
	defer o.Close()
	body, err := io.ReadAll(io.LimitReader(o, MaxBody+1))
	switch {
	case minio.ToErrorResponse(err).Code == minio.NoSuchKey:
		return nil, fmt.Errorf("%w: %s in bucket %s", ErrNone, b.key(name), b.bucket)
	case err != nil:
		return nil, fmt.Errorf("transcripts: s3: %w", err)
	case len(body) > MaxBody:
		return nil, fmt.Errorf("%w: s3: %s is too large", ErrOdd, name)
	}
	return body, nil
}

// Delete implements Store. In a bucket with versions it leaves a marker: what was
// there the bucket's own rules delete.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := b.client.RemoveObject(ctx, b.bucket, b.key(name), minio.RemoveObjectOptions{})
	if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchKey {
		return fmt.Errorf("transcripts: s3: %w", err)
	}
	return nil
}

// List implements Lister.
func (b *Bucket) List(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		for o := range b.client.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true}) {
			if o.Err != nil {
				yield(Item{}, fmt.Errorf("transcripts: s3: %w", o.Err))
				return
			}
			if name := o.Key[strings.LastIndexByte(o.Key, '/')+1:]; isName(name) && o.Key == b.key(name) && !yield(Item{name, o.LastModified}, nil) {
				return
			}
		}
	}
}
