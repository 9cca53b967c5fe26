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

// recheck is how long the files are used before they are checked for changes.
const recheck = time.Second

// tlsFiles keeps the content of the configured files current. Its fields are set once, except the atomic ones. Its methods may
// be called concurrently.
type tlsFiles struct {
	config  Config                   // names the files
	start   time.Time                // time 0 of checked
	checked atomic.Int64             // when the files were last checked, as time since start; the goroutine that sets it checks them
	current atomic.Pointer[tlsState] // the content in use
	// complaint is the last warning that was logged about the files, so that a lasting mistake is logged once.
	complaint atomic.Pointer[string]
}

// tlsState is the content of the files at one time, with the TLS settings made of it. It is never changed.
type tlsState struct {
	cert, key, ca []byte           // contents of the files; nil for a file that is not configured
	certificate   *tls.Certificate // nil when none is configured
	roots         *x509.CertPool   // nil means the authorities of the system
	server        *tls.Config      // settings of a server; nil without a certificate
	client        *tls.Config      // settings of a client
}

// openFiles checks the TLS settings of c and reads the files. It returns nil, and no error, for a Config without files, which
// means plaintext.
func openFiles(c Config) (*tlsFiles, error) {
	switch {
	case c.TLSCert == "" && c.TLSKey == "" && c.TLSCA == "":
		if c.RequireClientCert {
			return nil, fmt.Errorf("%s needs TLS: give %s, %s and %s", c.Flag("tls-require-client-cert"), c.Flag("tls-cert"), c.Flag("tls-key"), c.Flag("tls-ca"))
		}
		return nil, nil
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return nil, fmt.Errorf("%s and %s belong together: give both or neither", c.Flag("tls-cert"), c.Flag("tls-key"))
	case c.RequireClientCert && c.TLSCA == "":
		return nil, fmt.Errorf("%s needs %s: give the file with the authorities that have issued the clients' certificates", c.Flag("tls-require-client-cert"), c.Flag("tls-ca"))
	}
	f := &tlsFiles{config: c, start: time.Now()}
	id, err := f.read()
	if err != nil {
		return nil, err
	}
	f.current.Store(id)
	return f, nil
}

// latest returns the content of the files. If they were read more than a second ago, one caller reads them again first.
func (f *tlsFiles) latest() *tlsState {
	now, last := int64(time.Since(f.start)), f.checked.Load()
	if now-last >= int64(recheck) && f.checked.CompareAndSwap(last, now) {
		f.reload()
	}
	return f.current.Load()
}

// reload reads the files again. Content that can't be used is logged, and the earlier content stays in use.
func (f *tlsFiles) reload() {
	log := f.config.Log()
	id, err := f.read()
	if err != nil {
		complaint := err.Error()
		if last := f.complaint.Swap(&complaint); last == nil || *last != complaint {
			log.Warn("the TLS files have changed but can't be used: the earlier certificates stay in use", "error", err)
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

// read reads the files and makes the TLS settings of their contents. It returns the current tlsState if the files have not
// changed.
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

// parse makes the TLS settings of the contents that id has, and stores them in id.
func (f *tlsFiles) parse(id *tlsState) error {
	c := &f.config
	if c.TLSCert != "" {
		certificate, err := tls.X509KeyPair(id.cert, id.key)
		if err != nil {
			return fmt.Errorf("use certificate %s with key %s: %w", c.TLSCert, c.TLSKey, err)
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
		// By default crypto/tls shows no certificate that the server is going to refuse. With this function it shows the certificate,
		// and the server says why it refuses it.
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
		// With a session ticket a client could resume a session after its authority was removed.
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

// shown returns the certificate that a client shows to a server that asks for one; an empty certificate means none.
func (id *tlsState) shown() *tls.Certificate {
	if id.certificate == nil {
		return new(tls.Certificate)
	}
	return id.certificate
}
