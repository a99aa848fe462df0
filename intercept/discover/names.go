package discover

import (
	"path"
	"strings"
)

// databases are the protocols whose destinations are worth protecting first.
var databases = map[string]bool{
	"postgres": true, "mysql": true, "mongodb": true, "redis": true, "mssql": true, "oracle": true,
	"cassandra": true, "memcached": true, "clickhouse": true, "elasticsearch": true, "etcd": true, "ldap": true,
}

// ports are the usual ones of protocols (IANA's registry, and the defaults of
// the programs).
var ports = map[uint16]string{
	22: "ssh", 25: "smtp", 53: "dns", 80: "http", 443: "https", 587: "smtp", 8080: "http", 8443: "https",
	389: "ldap", 636: "ldap",
	1433: "mssql", 1521: "oracle", 2379: "etcd",
	3306: "mysql", 33060: "mysql", 6033: "mysql",
	5432: "postgres", 5433: "postgres", 6432: "postgres", 5439: "postgres", 26257: "postgres",
	6379: "redis", 6380: "redis", 16379: "redis",
	4222: "nats", 5672: "amqp", 9092: "kafka", 6443: "https",
	8123: "clickhouse", 9000: "clickhouse", 9042: "cassandra", 9200: "elasticsearch",
	11211: "memcached", 27017: "mongodb", 27018: "mongodb",
}

// servers are executables that serve a protocol wherever they listen.
var servers = map[string]string{
	"postgres": "postgres", "postmaster": "postgres", "cockroach": "postgres",
	"mysqld": "mysql", "mariadbd": "mysql", "mongod": "mongodb",
	"redis-server": "redis", "valkey-server": "redis", "keydb-server": "redis",
	"sqlservr": "mssql", "memcached": "memcached", "clickhouse-server": "clickhouse", "clickhouse": "clickhouse",
	"etcd": "etcd", "slapd": "ldap", "sshd": "ssh", "nats-server": "nats",
}

// forwarders are executables that carry others' connections wherever they
// listen; their protocol is "" where it may be any.
var forwarders = map[string]string{
	"pgbouncer": "postgres", "pgpool": "postgres", "odyssey": "postgres", "pgcat": "postgres", "supavisor": "postgres",
	"proxysql": "mysql", "maxscale": "mysql", "mysqlrouter": "mysql", "mongos": "mongodb", "twemproxy": "redis", "nutcracker": "redis",
	"cloud_sql_proxy": "", "cloud-sql-proxy": "", "alloydb-auth-proxy": "",
	"ssh": "", "socat": "", "haproxy": "", "envoy": "", "docker-proxy": "", "kubectl": "", "stunnel": "", "stunnel4": "",
	"ncat": "", "rinetd": "", "redir": "", "gost": "", "chisel": "", "cloudflared": "", "rootlessport": "", "slirp4netns": "", "tsh": "",
	"nginx": "", "traefik": "", "caddy": "", "systemd-socket-proxyd": "", "pasta": "", "passt": "",
}

// byPort names what is usually served at a port.
func byPort(port uint16) Service {
	if p := ports[port]; p != "" {
		return Service{p, ByPort}
	}
	return Service{}
}

// byServer names what an executable serves, else what the port says.
func byServer(exe string, port uint16) Service {
	name := path.Base(exe)
	if p := servers[name]; p != "" {
		return Service{p, ByServer}
	}
	if p := forwarders[name]; p != "" {
		return Service{p, ByServer}
	}
	return byPort(port)
}

// byPath names the database whose usual socket a path is: the server makes it
// under a name that clients know.
func byPath(p string) Service {
	p = strings.TrimPrefix(p, "@")
	base := path.Base(p)
	switch {
	case strings.HasPrefix(base, ".s.PGSQL."):
		return Service{"postgres", ByPort}
	case base == "mysqld.sock" || base == "mysql.sock" || base == "mysqlx.sock":
		return Service{"mysql", ByPort}
	case strings.HasPrefix(base, "mongodb-") && strings.HasSuffix(base, ".sock"):
		return Service{"mongodb", ByPort}
	case strings.HasPrefix(base, "redis") && strings.HasSuffix(base, ".sock"):
		return Service{"redis", ByPort}
	case base == "memcached.sock":
		return Service{"memcached", ByPort}
	}
	return Service{}
}
