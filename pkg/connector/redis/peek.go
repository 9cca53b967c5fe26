package redis

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goredis "github.com/redis/go-redis/v9"

	"github.com/kisgrid/kisgrid/internal/redisreply"
	"github.com/kisgrid/kisgrid/pkg/batch"
	"github.com/kisgrid/kisgrid/pkg/connector"
	"github.com/kisgrid/kisgrid/pkg/definition"
)

// Peeked is the content of one key of a store.
type Peeked struct {
	// Stored is the key with the connector's prefix, as it stands in Redis.
	Stored string
	// Type is Redis' name for the type of the value: hash, list, string, set, zset or stream. It is none if the key is not there.
	Type string
	// Left is the time until the key expires. 0 means that it does not.
	Left time.Duration
	// Fields are the fields of a hash; a string is one field without a name.
	Fields []connector.Field
	// Values are the values of a list.
	Values []string
	// Length is the number of all fields or values, of which Fields or Values have the first ones.
	Length int64
}

// Peek reads the content of a key, without the connector's prefix, from the Redis that a resolved document describes: up to most fields of a hash,
// or the first values of a list. Of other types than hash, list and string it tells only the type. It is for people who look, and writes nothing.
// The error has CodeBadDocument if the document is wrong, and CodeConnectorUnavailable if Redis does not answer.
func Peek(ctx context.Context, doc *definition.Connector, key string, most int) (*Peeked, error) {
	o, err := readOptions(doc, nil, nil)
	if err != nil {
		return nil, err
	}
	setLogger.Do(func() { goredis.SetLogger(clientLog{hclog.NewNullLogger()}) }) // its lines say what the error says
	client := goredis.NewUniversalClient(o.client)
	defer client.Close()
	redisreply.Own(client)
	p := &Peeked{Stored: doc.Key + key}
	if err := p.read(ctx, client, most); err != nil {
		return nil, batch.Errorf(batch.CodeConnectorUnavailable, "read key %q of connector %s at %s: %w", key, doc.Name, strings.Join(doc.Addrs, ","), err)
	}
	return p, nil
}

// read reads the key. It may be deleted meanwhile; then it is empty.
func (p *Peeked) read(ctx context.Context, client goredis.UniversalClient, most int) (err error) {
	if p.Type, err = client.Type(ctx, p.Stored).Result(); err != nil || p.Type == "none" {
		return err
	}
	left, err := client.PTTL(ctx, p.Stored).Result()
	if err != nil {
		return err
	}
	p.Left = max(0, left)
	switch p.Type {
	case "hash":
		return p.readHash(ctx, client, most)
	case "list":
		if p.Length, err = client.LLen(ctx, p.Stored).Result(); err == nil {
			p.Values, err = client.LRange(ctx, p.Stored, 0, int64(most)-1).Result()
		}
	case "string":
		var value string
		if value, err = client.Get(ctx, p.Stored).Result(); err == nil {
			p.Length, p.Fields = 1, []connector.Field{{Value: value}}
		}
	}
	return err
}

// readHash reads up to most fields of a hash, in parts, so that a hash of any size costs Redis little at a time.
func (p *Peeked) readHash(ctx context.Context, client goredis.UniversalClient, most int) (err error) {
	if p.Length, err = client.HLen(ctx, p.Stored).Result(); err != nil {
		return err
	}
	seen := map[string]bool{} // a scan may give a field twice
	for cursor := uint64(0); ; {
		var part []string
		if part, cursor, err = client.HScan(ctx, p.Stored, cursor, "", int64(min(most, 1000))).Result(); err != nil {
			return err
		}
		for i := 0; i+1 < len(part) && len(p.Fields) < most; i += 2 {
			if !seen[part[i]] {
				seen[part[i]] = true
				p.Fields = append(p.Fields, connector.Field{Name: part[i], Value: part[i+1]})
			}
		}
		if cursor == 0 || len(p.Fields) >= most {
			return nil
		}
	}
}
