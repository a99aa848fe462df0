package jetstream_test

import (
	"testing"

	"sallyport.dev/sallyport/events/jetstream"
)

// Nothing goes in clear but over loopback, whichever address of a list it is.
func TestCheckURL(t *testing.T) {
	for s, ok := range map[string]bool{
		"nats://127.0.0.1:4222": true, "nats://[::1]:4222": true, "localhost:4222": true, "ws://127.0.0.9:80": true,
		"tls://nats.example.com:4222": true, "wss://nats.example.com": true, "tls://a:4222,tls://b:4222": true,
		"": false, "nats://": false, "nats://nats.example.com:4222": false, "nats.example.com": false, "10.0.0.1:4222": false,
		"ws://nats.example.com": false, "nats://0.0.0.0:4222": false, "nats://localhost.example.com": false,
		"nats://127.0.0.1@nats.example.com": false, "tls://a:4222,nats://b:4222": false, "tls://a:4222, b": false,
		"nats://127.0.0.1:4222,": false, "http://127.0.0.1": false, "TLS://a": true, "NATS://a": false,
	} {
		if err := jetstream.CheckURL(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
