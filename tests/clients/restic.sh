#!/usr/bin/env bash
# restic, which keeps its backups in S3.
source "$(dirname -- "$(readlink -f -- "$0")")/scenarios.sh"

export RESTIC_PASSWORD=secret RESTIC_CACHE_DIR=$PWD/cache
export RESTIC_REPOSITORY=s3:$AWS_ENDPOINT_URL/restic/a/repository

a_repository_is_made_once() {
    restic -q init
    refused restic -q init
}

a_backup_is_whole() {
    tree data
    noise $((20 << 20)) 5 >data/larger
    restic -q backup data
    restic -q check --read-data
    restic -q restore latest --target restored
    same data restored/data
}

a_second_backup_holds_what_has_changed() {
    rm -r data/b data/large
    noise $((3 << 20)) 6 >data/new
    restic -q backup data
    rm -r restored
    restic -q restore latest --target restored
    same data restored/data
    restic snapshots --json >snapshots
    [[ $(grep -o '"short_id"' snapshots | wc -l) == 2 ]]
    restic -q --no-cache ls latest >listed
    says /data/new listed
}

a_large_file_comes_from_a_pipe() {
    restic -q backup --stdin --stdin-filename piped <data/larger
    restic -q dump latest piped | cmp - data/larger
}

what_is_forgotten_is_pruned() {
    restic -q forget --keep-last 1 --group-by '' --prune
    restic snapshots --json >snapshots
    [[ $(grep -o '"short_id"' snapshots | wc -l) == 1 ]]
    restic -q check --read-data
    restic -q dump latest piped | cmp - data/larger
    restic list locks >locks
    [[ ! -s locks ]]
}

a_wrong_password_or_key_opens_nothing() {
    RESTIC_PASSWORD=wrong refused restic -q snapshots
    AWS_SECRET_ACCESS_KEY=wrong refused restic -q --no-cache snapshots
}

all_of_it_can_be_purged() {
    aws s3 rb --force s3://restic >/dev/null
}

holds a_repository_is_made_once a_backup_is_whole a_second_backup_holds_what_has_changed \
    a_large_file_comes_from_a_pipe what_is_forgotten_is_pruned a_wrong_password_or_key_opens_nothing \
    all_of_it_can_be_purged
