#!/usr/bin/env bash
# rclone, its S3 backend for "any other" provider.
source "$(dirname -- "$(readlink -f -- "$0")")/scenarios.sh"

export RCLONE_CONFIG=/dev/null RCLONE_RETRIES=1 RCLONE_LOW_LEVEL_RETRIES=1 RCLONE_STATS=0
export RCLONE_CONFIG_S3_TYPE=s3 RCLONE_CONFIG_S3_PROVIDER=Other RCLONE_CONFIG_S3_ENV_AUTH=true
export RCLONE_CONFIG_S3_ENDPOINT=$AWS_ENDPOINT_URL RCLONE_CONFIG_S3_REGION=$AWS_DEFAULT_REGION
# files above 5 MiB go in parts of as much
export RCLONE_S3_UPLOAD_CUTOFF=5M RCLONE_S3_CHUNK_SIZE=5M
remote=s3:rclone

a_bucket_is_made() {
    rclone mkdir $remote
    rclone lsd s3: >listed
    says ' rclone' listed
}

a_directory_goes_up_and_is_the_same() {
    tree up
    touch -d '2001-02-03 04:05:06.789' up/a.txt up/large
    rclone copy up $remote/tree
    rclone check up $remote/tree
    rclone check --download up $remote/tree
    (cd up && md5sum a.txt b/c/*) >sums
    rclone md5sum $remote/tree >remote-sums
    grep -qF -- "$(cut -d' ' -f1 sums | head -n 1)  a.txt" remote-sums
    rclone copy $remote/tree down
    same up down
}

times_are_kept() {
    rclone lsjson $remote/tree >json
    says '2001-02-03T04:05:06.789' json
    [[ $(stat -c %Y down/a.txt) == $(stat -c %Y up/a.txt) ]]
    [[ $(stat -c %Y down/large) == $(stat -c %Y up/large) ]]
    touch -d '2002-02-03 04:05:06' up/a.txt
    rclone sync up $remote/tree # the time alone, by a copy onto itself
    rclone lsjson $remote/tree >json
    says '2002-02-03T04:05:06' json
    rclone check --download up $remote/tree
}

what_is_there_is_not_copied_again() {
    rclone copy -v up $remote/tree 2>said
    grep -q 'There was nothing to transfer' said
}

a_difference_is_found() {
    cp -r up other
    echo other >other/a.txt
    refused rclone check other $remote/tree
}

copies_are_made_by_the_server() {
    rclone copy -v --s3-copy-cutoff 5M $remote/tree $remote/copy 2>said
    says 'server-side copy' said
    rclone check --download up $remote/copy
    rclone copyto $remote/tree/a.txt "$remote/a ü.txt"
    rclone cat "$remote/a ü.txt" | cmp - up/a.txt
}

files_are_moved() {
    rclone moveto $remote/copy $remote/moved
    rclone check --download up $remote/moved
    rclone lsf -R --files-only $remote/copy >listed 2>&1 || true
    [[ ! -s listed ]] || says 'directory not found' listed
}

what_is_gone_is_deleted_by_a_sync() {
    rm -r up/b
    echo new >up/new
    rclone sync up $remote/moved
    rclone check --download up $remote/moved
    rclone sync $remote/moved down
    same <(cd up && find . -type f | sort) <(cd down && find . -type f | sort)
}

pipes_go_up_and_down() {
    noise $((11 << 20)) 7 >file
    rclone rcat $remote/piped <file
    rclone cat $remote/piped | cmp - file
    rclone cat --offset 5000000 --count 1000 $remote/piped >back
    cmp --bytes 1000 --ignore-initial 0:5000000 back file
    [[ $(wc -c <back) == 1000 ]]
}

folders_are_listed() {
    rclone lsf $remote >listed
    says moved/ listed
    says tree/ listed
    says piped listed
    rclone size $remote/tree >size
    says 'Total objects: 9' size
    rclone ls --max-depth 1 $remote/tree >listed
    says '12582912 large' listed
}

whoever_has_no_key_is_refused() {
    AWS_SECRET_ACCESS_KEY=wrong refused rclone lsf $remote
    says SignatureDoesNotMatch refusal
}

all_of_it_can_be_purged() {
    rclone deletefile $remote/piped
    rclone delete $remote/moved
    rclone purge $remote/tree
    rclone purge $remote
    rclone lsd s3: >listed
    [[ ! -s listed ]]
}

holds a_bucket_is_made a_directory_goes_up_and_is_the_same times_are_kept what_is_there_is_not_copied_again \
    a_difference_is_found copies_are_made_by_the_server files_are_moved what_is_gone_is_deleted_by_a_sync \
    pipes_go_up_and_down folders_are_listed whoever_has_no_key_is_refused all_of_it_can_be_purged
