package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// recheck is how long files are trusted not to have changed.
const recheck = time.Second

// files holds what the configured files say. All fields but the atomic ones are set once.
type tlsFiles struct {
	config  Config
	start   time.Time
	checked atomic.Int64 // when the files were last looked at, after start; whoever moves it on looks
	current atomic.Pointer[tlsState]
	// complaint is the last one that was logged, so that a broken file is not logged once a second.
	complaint atomic.Pointer[string]
}

// identity is what the files said at one time. It is never changed.
type tlsState struct {
	cert, key, ca []byte
	certificate   *tls.Certificate // nil: none configured
	roots         *x509.CertPool   // nil: the system's
	server        *tls.Config      // nil without a certificate
	client        *tls.Config
}

// openFiles reads the files; a Config without any is plaintext and gives nil.
func openFiles(c Config) (*tlsFiles, error) {
	switch {
	case c.TLSCert == "" && c.TLSKey == "" && c.TLSCA == "":
		if c.RequireClientCert {
			return nil, fmt.Errorf("%s needs TLS: give %s, %s and %s", c.Flag("tls-require-client-cert"), c.Flag("tls-cert"), c.Flag("tls-key"), c.Flag("tls-ca"))
		}
		return nil, nil
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return nil, fmt.Errorf("%s and %s go together: give both or none", c.Flag("tls-cert"), c.Flag("tls-key"))
	case c.RequireClientCert && c.TLSCA == "":
		return nil, fmt.Errorf("%s needs %s: the file of the authorities that clients' certificates come from", c.Flag("tls-require-client-cert"), c.Flag("tls-ca"))
	}
	f := &tlsFiles{config: c, start: time.Now()}
	id, err := f.read()
	if err != nil {
		return nil, err
	}
	f.current.Store(id)
	return f, nil
}

// get is what the files say, no older than a second and one reading.
func (f *tlsFiles) latest() *tlsState {
	now, last := int64(time.Since(f.start)), f.checked.Load()
	if now-last >= int64(recheck) && f.checked.CompareAndSwap(last, now) {
		f.reload()
	}
	return f.current.Load()
}

func (f *tlsFiles) reload() {
	log := f.config.Log()
	id, err := f.read()
	if err != nil {
		complaint := err.Error()
		if last := f.complaint.Swap(&complaint); last == nil || *last != complaint {
			log.Warn("TLS files changed but can't be used: the old ones stay in use", "error", err)
		}
		return
	}
	f.complaint.Store(nil)
	old := f.current.Load()
	if id == old {
		return
	}
	f.current.Store(id)
	log.Info("TLS files reloaded", "cert", f.config.TLSCert, "ca", f.config.TLSCA)
}

// read reads the files; it returns the current identity where nothing changed.
func (f *tlsFiles) read() (*tlsState, error) {
	id := new(tlsState)
	for _, file := range []struct {
		flag, path string
		content    *[]byte
	}{
		{"tls-cert", f.config.TLSCert, &id.cert},
		{"tls-key", f.config.TLSKey, &id.key},
		{"tls-ca", f.config.TLSCA, &id.ca},
	} {
		if file.path == "" {
			continue
		}
		content, err := os.ReadFile(file.path)
		if err != nil {
			return nil, fmt.Errorf("read the file of %s: %w", f.config.Flag(file.flag), err)
		}
		*file.content = content
	}
	if old := f.current.Load(); old != nil && bytes.Equal(id.cert, old.cert) && bytes.Equal(id.key, old.key) && bytes.Equal(id.ca, old.ca) {
		return old, nil
	}
	return id, f.parse(id)
}

// parse makes of the files' contents what handshakes need.
func (f *tlsFiles) parse(id *tlsState) error {
	c := &f.config
	if c.TLSCert != "" {
		certificate, err := tls.X509KeyPair(id.cert, id.key)
		if err != nil {
			return fmt.Errorf("certificate %s with key %s: %w", c.TLSCert, c.TLSKey, err)
		}
		id.certificate = &certificate
	}
	if c.TLSCA != "" {
		id.roots = x509.NewCertPool()
		if !id.roots.AppendCertsFromPEM(id.ca) {
			return fmt.Errorf("%s (%s) holds no PEM certificate", c.TLSCA, c.Flag("tls-ca"))
		}
	}
	id.client = &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    id.roots,
		ServerName: c.TLSServerName,
		// Left to itself crypto/tls hides a certificate that the server would refuse, and the server could not say why.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.shown(), nil },
	}
	if id.certificate == nil {
		return nil
	}
	id.server = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{*id.certificate},
		NextProtos:   []string{"h2", "http/1.1"},
		ClientCAs:    id.roots,
		// A ticket would let a client back in whose authority has been removed meanwhile.
		SessionTicketsDisabled: true,
	}
	switch {
	case c.RequireClientCert:
		id.server.ClientAuth = tls.RequireAndVerifyClientCert
	case id.roots != nil:
		id.server.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return nil
}

// shown is what a client shows to a server that asks for a certificate; an empty one where there is none.
func (id *tlsState) shown() *tls.Certificate {
	if id.certificate == nil {
		return new(tls.Certificate)
	}
	return id.certificate
}
