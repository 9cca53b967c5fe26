// Package authority makes certificates for a limited time: for a cluster on one machine, and for tests. A cluster for production needs a
// certificate authority of its own.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority signs certificates. Its methods may be called by several goroutines at the same time.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Leaf describes a certificate to issue. Only Hosts must be given.
type Leaf struct {
	// Hosts are the names and IP addresses that the certificate is for. The first one is its common name.
	Hosts []string
	// NotAfter is when the certificate expires. Default: when the authority's own certificate does.
	NotAfter time.Time
	// Usage says for which side of a connection the certificate is valid. Default: for servers and clients.
	Usage []x509.ExtKeyUsage
}

// Files are the paths of a process's certificate, its key, and the authority that it trusts.
type Files struct{ Cert, Key, CA string }

// New makes an authority with this name. Its certificate is valid from an hour ago until valid has passed from now.
func New(name string, valid time.Duration) (*Authority, error) {
	now := time.Now()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(valid),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &Authority{}
	key, der, err := a.sign(template)
	if err != nil {
		return nil, err
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make the authority %s: %w", name, err)
	}
	a.key = key
	return a, nil
}

// PEM returns the authority's own certificate, in the format PEM.
func (a *Authority) PEM() []byte { return encode("CERTIFICATE", a.certificate.Raw) }

// Issue makes a certificate and its key, and returns both in the format PEM.
func (a *Authority) Issue(l Leaf) (cert, key []byte, err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: l.Hosts[0]}, NotBefore: a.certificate.NotBefore, NotAfter: a.certificate.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: l.Usage,
	}
	if !l.NotAfter.IsZero() {
		template.NotAfter = l.NotAfter
	}
	if l.Usage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	for _, host := range l.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	private, der, err := a.sign(template)
	if err != nil {
		return nil, nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the key of %s: %w", l.Hosts[0], err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", secret), nil
}

// Write issues a certificate and writes it, its key and the authority's certificate into the folder dir, as tls.crt, tls.key
// and ca.crt. A Secret of Kubernetes has the same names. Write makes the folder where it is missing, and replaces existing
// files one after the other.
func (a *Authority) Write(dir string, l Leaf) (Files, error) {
	f := Files{Cert: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), CA: filepath.Join(dir, "ca.crt")}
	cert, key, err := a.Issue(l)
	if err != nil {
		return f, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, fmt.Errorf("make a folder for the certificate of %s: %w", l.Hosts[0], err)
	}
	for path, content := range map[string][]byte{f.Cert: cert, f.Key: key, f.CA: a.PEM()} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return f, fmt.Errorf("write the certificate of %s: %w", l.Hosts[0], err)
		}
	}
	return f, nil
}

// sign makes a key and a certificate for the template, which the authority signs. While the authority has no certificate, the
// new key signs it. The certificate is returned in the format DER.
func (a *Authority) sign(template *x509.Certificate) (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the key of %s: %w", template.Subject.CommonName, err)
	}
	var serial [8]byte
	rand.Read(serial[:]) // never fails: see crypto/rand
	template.SerialNumber = new(big.Int).SetBytes(serial[:])
	parent, by := a.certificate, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the certificate of %s: %w", template.Subject.CommonName, err)
	}
	return key, der, nil
}

// encode returns a PEM block of this kind, such as "CERTIFICATE", with the bytes der.
func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
