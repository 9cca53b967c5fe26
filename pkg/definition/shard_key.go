package definition

import "go.yaml.in/yaml/v3"

// ShardKeyOf returns the shard key in a flow's document, even if the document is wrong otherwise. key is "" if the document
// names none. read is false if the shard key can't be found out, because the document is not a YAML mapping or the key's value
// is no text.
func ShardKeyOf(d Document) (key string, read bool) {
	if p, err := Parse(d); err == nil && p.Flow != nil {
		return p.Flow.ShardKey, true
	}
	root := d.node()
	if root == nil || root.Kind != yaml.MappingNode {
		return "", false
	}
	fields := root.Content
	for i := 0; i+1 < len(fields); i += 2 {
		value := fields[i+1]
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		if fields[i].Value == "shard_key" {
			return value.Value, value.Kind == yaml.ScalarNode
		}
	}
	return "", true
}
